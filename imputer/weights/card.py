"""The model card: the README.md of a repository on the Hub, written from its manifest entries alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights.choice import makes
from imputer.weights.manifest import Entry, Score
from imputer.weights.package import ANY_MM, NOT_STATED

# Licences that the Hub knows by their SPDX names in lower case; any other is "other" there.
_HUB_LICENCES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
)
_TAGS = ("medical", "medical-imaging", "mri", "image-translation", "synthetic-data", "diffusion")

_USE = """\
Research and teaching: filling gaps in data sets, feeding software that wants a contrast which was not acquired.
**Synthetic images, not for diagnosis** and not for treatment: a generator can miss, weaken or invent what is in a
patient, a tumour or a lesion most of all. What it was not trained on (see the scope) is untried. Every file that
imputer writes says that it is synthetic, in its header and in the record beside it.
"""


def card(entries: Sequence[Entry], repo: str = "OWNER/REPO") -> str:
    """Return the model card of a repository that holds these models, in Markdown with a YAML head.

    Raises ModelError where there is none, or one that has no file.
    """
    without = [entry.id for entry in entries if not entry.is_runnable]
    if without or not entries:
        raise ModelError(f"A model card is of models with files, which {', '.join(without) or 'none'} is not.")
    title = _line(entries[0].title) if len(entries) == 1 else f"{len(entries)} models for imputer"
    parts = [
        "\n".join(_head(entries)),
        f"# {title}\n\n**Synthetic images, not for diagnosis.**",
        "## What it makes\n\n" + _table(["model", "from", "to", "method", "version", "size"], _makes(entries)),
        f"## How to run it\n\n```bash\n{_commands(entries, repo)}\n```\n\n"
        "`@` and a commit or tag behind the name pins a version. `imputer` checks the SHA-256 of the file before use.",
        "## Scope\n\n" + "\n".join(map(_scope, entries)),
        f"## Training data\n\n{_each(entries, [entry.trained_on for entry in entries])}",
        f"## Scores\n\n{_scores(entries)}",
        f"## Intended use and limits\n\n{_USE.strip()}",
        "## Licence\n\n" + "\n".join(_licence(entries)),
        f"## Citation\n\n{_each(entries, [entry.citation for entry in entries])}",
        "## Files\n\n" + _table(["model", "bytes", "SHA-256"], _files(entries)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(entries: Sequence[Entry]) -> Iterator[str]:
    """The YAML head. None of its values is free text, so that nothing needs to be quoted."""
    names = {entry.licence.weights.strip().lower() for entry in entries}
    known = len(names) == 1 and names <= set(_HUB_LICENCES)
    yield "---"
    yield f"license: {names.pop() if known else 'other'}"
    if not known:
        yield "license_name: see-model-card"
    yield "library_name: imputer"
    yield "pipeline_tag: image-to-image"
    yield "tags:"
    of_models = (tag for entry in entries for tag in (entry.method, *entry.sources, *entry.targets))
    yield from (f"- {tag}" for tag in dict.fromkeys((*_TAGS, *of_models)))
    yield "---"


def _makes(entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        sources = entry.source_text.upper().replace("OR FEWER", "or fewer")
        targets = entry.target_text.upper()
        yield f"`{entry.id}`", sources, targets, entry.method, entry.version, f"{entry.bytes / 1e6:.1f} MB"


def _commands(entries: Sequence[Entry], repo: str) -> str:
    """One command for each source of each model, or for all that enter together, with all that it makes of it."""
    commands: dict[tuple[str, tuple[Modality, ...]], None] = {}
    for entry in entries:
        if not entry.any_one_source:
            given = " ".join(f"{source}={source}.nii.gz" for source in entry.sources)
            commands[given, entry.targets] = None
            continue
        for source in entry.sources:
            targets = tuple(target for target in entry.targets if makes(entry, source, target))
            commands |= {(f"{source}.nii.gz", targets): None} if targets else {}
    return "\n".join(
        f"imputer synth {given} {' '.join(f'--to {target}' for target in targets)} -m hf://{repo}"
        for given, targets in commands
    )


def _scope(entry: Entry) -> str:
    scope = entry.scope
    skull = {"yes": "skull-stripped", "no": "with skull", "either": "with skull or stripped"}[scope.skull_stripped]
    note = f" {_line(scope.note)}" if scope.note else ""
    pixels, slices = _span(scope.pixel_mm), _span(scope.slice_mm)
    return f"- `{entry.id}`: {_line(scope.anatomy)}, {skull}; size of pixels {pixels}, of slices {slices}.{note}"


def _span(span: tuple[float, float]) -> str:
    return NOT_STATED if span == ANY_MM else f"{' to '.join(f'{size:g}' for size in dict.fromkeys(span))} mm"


def _scores(entries: Sequence[Entry]) -> str:
    rows = [(f"`{entry.id}`", *_score(score)) for entry in entries for score in entry.scores]
    if not rows:
        return "None were measured."
    heading = ["model", "data", "case", "metric", "value", "baseline"]
    return f"{_table(heading, rows)}\n\nFew cases: expect other figures on other patients, scanners and sequences."


def _score(score: Score) -> tuple[str, ...]:
    digits = 3 if score.metric == "SSIM" else 2
    baseline = "" if score.baseline is None else f"{score.baseline:.{digits}f} {score.baseline_name}".strip()
    return score.data, score.case, score.metric, f"{score.value:.{digits}f}", baseline


def _licence(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        licence = entry.licence
        use = " **Not for commercial use.**" if licence.non_commercial else ""
        texts = [_line(text) for text in (licence.weights, licence.code, licence.data)]
        yield f"- `{entry.id}`: weights {texts[0]}; code {texts[1]}; training data {texts[2]}.{use}"


def _files(entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        yield f"`{entry.id}`", f"{entry.bytes}", f"`{entry.sha256}`"


def _each(entries: Sequence[Entry], texts: Sequence[str]) -> str:
    """A text that all models share once, else one line for each."""
    if len(set(texts)) == 1:
        return _line(texts[0])
    return "\n".join(f"- `{entry.id}`: {_line(text)}" for entry, text in zip(entries, texts, strict=True))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["--"] * len(heading), *([_line(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: str) -> str:
    """A text of an entry as one line without HTML: whoever wrote it, it must not change the page around it."""
    return " ".join(text.split()).replace("<", "&lt;")
