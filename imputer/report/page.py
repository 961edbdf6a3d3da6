"""The page of a cohort: one HTML file that needs nothing but itself, for looking at many synthetic volumes.

Everything is in the file: style, script, pictures. Its content security policy forbids any request, and any script or
style but its own. The table is plain HTML; what a case holds besides lies beside it as JSON until somebody opens it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from imputer.files import replacing
from imputer.report.page_images import Detail, Pictures

NOTICE = "Synthetic images, not for diagnosis"
# Kinds of flags, the gravest first; what is said of them on the page.
FAILED, OPEN, BROKEN, RISK, SCOPE, PAGE, NOTE = "failed", "open", "broken", "risk", "scope", "page", "note"
LABELS = {
    FAILED: "Failed",
    OPEN: "Not made",
    BROKEN: "Broken",
    RISK: "Risk",
    SCOPE: "Scope",
    PAGE: "No source",
    NOTE: "Note",
}
_QUIET = (PAGE, NOTE)  # kinds that call for no second look
_MARK = re.compile(r"\{\{(\w+)\}\}")
_BORING = "–"


@dataclass(frozen=True)
class Flag:
    """Something to know of a case: `kind` is one of `LABELS`, `text` a sentence without names of files."""

    kind: str
    text: str


@dataclass(frozen=True)
class PageCase:
    """One synthetic volume, or one that could not be made.

    Parameters
    ----------
    name : id of the case.
    contrast : what was made from what, e.g. "T1 → T2".
    status : "done", "failed" or "open".
    seconds : that it took; None: not known.
    flags : see `Flag`.
    risk : in [0, 1], greater is worse; None: not scored.
    facts : (what, value) to be listed.
    pictures : None where there are none.
    """

    name: str
    contrast: str
    status: str
    seconds: float | None = None
    flags: tuple[Flag, ...] = ()
    risk: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    pictures: Pictures | None = None

    @property
    def is_flagged(self) -> bool:
        """Whether somebody should look at it."""
        return self.status != "done" or any(flag.kind not in _QUIET for flag in self.flags)


def write_page(
    path: Path,
    cases: Iterable[PageCase],
    *,
    run: Sequence[tuple[str, str]],
    detail: Detail,
    version: str,
    overwrite: bool = False,
) -> int:
    """Write the page, wholly or not at all; returns its size in bytes.

    Parameters
    ----------
    cases : in the order of the table; taken one by one.
    run : (what, value) of the run as a whole.
    detail : to which the pictures were reduced.
    version : of this program.

    Raises
    ------
    OutputError
        Where the file exists (without `overwrite`) or cannot be written.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        size = temporary.write_bytes(render(list(cases), run=run, detail=detail, version=version))
    return size


def render(cases: Sequence[PageCase], *, run: Sequence[tuple[str, str]], detail: Detail, version: str) -> bytes:
    """The page as UTF-8; see `write_page`."""
    style, script = _shipped("page.css"), _shipped("page.js")
    has_risk = any(case.risk is not None for case in cases)
    parts = {
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "notice": escape(NOTICE),
        "title": escape(_title(cases)),
        "run": _facts([*_counts(cases), *run]),
        "risk_heading": _heading("risk", "Risk", is_number=True) if has_risk else "",
        "rows": "\n".join(_row(place, case, has_risk) for place, case in enumerate(cases)),
        "count": f"{len(cases)} of {len(cases)} shown",
        "reduction": escape(_reduction(detail)),
        "version": escape(version),
        "islands": "\n".join(_island(place, case) for place, case in enumerate(cases)),
    }
    text = _MARK.sub(lambda found: parts[found.group(1)], _shipped("page.html"))
    return text.encode("utf-8", "replace")  # ids may hold what is no Unicode


def _shipped(name: str) -> str:
    return (resources.files("imputer.report") / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy: the page's own style and script by their hashes, pictures out of the file, no more."""

    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") + "'"

    return (
        f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _title(cases: Sequence[PageCase]) -> str:
    known = [case for case in cases if case.status == "done"] or cases  # of others only the target is known
    contrasts = sorted({case.contrast for case in known if case.contrast})
    what = contrasts[0] if len(contrasts) == 1 else f"{len(contrasts)} contrasts"
    names = len({case.name for case in cases})
    return " · ".join([*([what] if contrasts else []), "1 case" if names == 1 else f"{names} cases"])


def _counts(cases: Sequence[PageCase]) -> list[tuple[str, str]]:
    told = [("Done", "done"), ("Failed", "failed"), ("Not made", "open")]
    counts = [(name, sum(case.status == status for case in cases)) for name, status in told]
    flagged = sum(case.is_flagged for case in cases)
    return [*((name, str(count)) for name, count in counts if count or name == "Done"), ("Flagged", str(flagged))]


def _reduction(detail: Detail) -> str:
    slices = "one slice" if detail.slices == 1 else f"at most {detail.slices} slices"
    return (
        f"Pictures are reduced: {slices} of a case, at most {detail.pixels} pixels wide and high, JPEG. They are for "
        "an overview; open the volumes themselves for details."
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)


def _heading(key: str, text: str, *, is_number: bool = False) -> str:
    kind = "number" if is_number else "text"
    return (
        f'<th scope="col" class="{key}" data-key="{key}" data-kind="{kind}">'
        f'<button type="button">{text}<span class="arrow" aria-hidden="true"></span></button></th>'
    )


def _row(place: int, case: PageCase, has_risk: bool) -> str:
    flags = sorted(case.flags, key=lambda flag: list(LABELS).index(flag.kind))
    cells = [
        f'<td class="pictures">{_thumbnails(case)}</td>',
        f'<th scope="row" class="case" data-value="{escape(case.name)}">'
        f'<button type="button" class="open" aria-haspopup="dialog">{escape(case.name)}</button></th>',
        _cell("contrast", case.contrast, escape(case.contrast) or _BORING),
        _cell("status", case.status, f'<span class="badge {escape(case.status)}">{escape(case.status)}</span>'),
    ]
    if has_risk:
        cells.append(_number("risk", case.risk, 2))
    cells += [_cell("flags", str(_gravity(case)), _badges(flags)), _number("seconds", case.seconds, 1)]
    flagged = " data-flagged" if case.is_flagged else ""
    return f'<tr data-place="{place}"{flagged}>{"".join(cells)}</tr>'


def _cell(key: str, value: str, inside: str) -> str:
    return f'<td class="{key}" data-value="{escape(value)}">{inside}</td>'


def _number(key: str, value: float | None, digits: int) -> str:
    return _cell(key, "" if value is None else str(value), _BORING if value is None else f"{value:.{digits}f}")


def _gravity(case: PageCase) -> int:
    """Number to sort by: first what failed, then how much is said."""
    weights = {FAILED: 1000, OPEN: 500, BROKEN: 500, RISK: 20, SCOPE: 10, PAGE: 2, NOTE: 1}
    return sum(weights[flag.kind] for flag in case.flags)


def _badges(flags: Sequence[Flag]) -> str:
    if not flags:
        return f'<span class="none">{_BORING}<span class="spoken">none</span></span>'
    kinds = list(dict.fromkeys(flag.kind for flag in flags))
    counted = {kind: sum(flag.kind == kind for flag in flags) for kind in kinds}
    badges = " ".join(
        f'<span class="badge {kind}">{LABELS[kind]}{f" {count}" if count > 1 else ""}</span>'
        for kind, count in counted.items()
    )
    return f'{badges}<span class="said">{escape(flags[0].text)}</span>'


def _thumbnails(case: PageCase) -> str:
    if case.pictures is None:
        return '<span class="none">no picture</span>'
    return "".join(
        f'<img src="data:image/jpeg;base64,{picture.thumbnail}" alt="{picture.name}" loading="lazy" decoding="async">'
        for picture in case.pictures.pictures
        if picture.name != "deviation"
    )


def _island(place: int, case: PageCase) -> str:
    data = {
        "name": case.name,
        "contrast": case.contrast,
        "status": case.status,
        "flags": [[flag.kind, LABELS[flag.kind], flag.text] for flag in case.flags],
        "facts": [list(fact) for fact in case.facts],
        "pictures": None if case.pictures is None else _pictures(case.pictures),
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # nothing in it ends the element
    return f'<script type="application/json" id="case-{place}">{text}</script>'


def _pictures(pictures: Pictures) -> dict[str, object]:
    return {
        "plane": pictures.plane,
        "letters": pictures.letters,
        "slices": pictures.slices,
        "of": pictures.of,
        "width": pictures.width,
        "height": pictures.height,
        "volumes": [
            {
                "name": picture.name,
                "strip": picture.strip,
                "low": picture.histogram.low,
                "high": picture.histogram.high,
                "shares": picture.histogram.shares,
            }
            for picture in pictures.pictures
        ],
    }
