"""The report page as a file: what it says, what it must not, how large it is."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from imputer.errors import OutputError
from imputer.report.page import Flag, PageCase, render, write_page
from imputer.report.page_images import Pictures, detail_for, pictures_of

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--"


def some_pictures(seed: int = 0, names: tuple[str, ...] = ("source", "synthetic"), size: int = 24) -> Pictures:
    random = np.random.default_rng(seed)
    volumes = [(name, random.uniform(0, 100, (size, size, 6)).astype(np.float32)) for name in names]
    return pictures_of(volumes, (1.0, 1.0, 1.0), detail_for(1))


def page_of(*cases: PageCase, run: tuple[tuple[str, str], ...] = ()) -> str:
    return render(cases, run=run, detail=detail_for(len(cases)), version="1.2.3").decode("utf-8")


class Scan(HTMLParser):
    """Elements of a page, and the text of its rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_page_says_first_that_the_images_are_synthetic() -> None:
    text = page_of(PageCase("a", "T1 → T2", "done", pictures=some_pictures()))
    body = text[text.index("<body>") :]
    assert body.index("Synthetic images, not for diagnosis") < body.index("<h1>")


def test_rows_flags_and_facts_are_told() -> None:
    flags = (Flag("note", "Seen <twice>."), Flag("scope", "Slices are thick."))
    case = PageCase("sub-1", "T1 → T2", "done", 1.25, flags, 0.4, (("Seed", "7"),), some_pictures())
    text = page_of(case, PageCase("sub-2", "T2", "failed", 0.5, (Flag("failed", "It is damaged."),)), run=(("A", "B"),))
    assert "Seen &lt;twice&gt;." not in text[: text.index('<script type="application/json"')]  # the first one is said
    assert ">Slices are thick.<" in text and ">It is damaged.<" in text
    assert "T1 → T2 · 2 cases" in text
    assert "<dt>A</dt><dd>B</dd>" in text and "<dt>Flagged</dt><dd>2</dd>" in text
    data = json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)[0])
    assert data["facts"] == [["Seed", "7"]]
    assert data["flags"][0] == ["note", "Note", "Seen <twice>."]
    assert [volume["name"] for volume in data["pictures"]["volumes"]] == ["source", "synthetic"]
    assert ">0.40<" in text and 'data-value="0.4"' in text


def test_without_scores_there_is_no_column_of_them() -> None:
    assert 'data-key="risk"' not in page_of(PageCase("a", "T2", "done"))
    assert 'data-key="risk"' in page_of(PageCase("a", "T2", "done", risk=0.1))


def test_nothing_that_a_case_says_becomes_markup() -> None:
    case = PageCase(EVIL, EVIL, "done", 1.0, (Flag("scope", EVIL),), 0.2, ((EVIL, EVIL),), some_pictures())
    honest = PageCase("a", "b", "done", 1.0, (Flag("scope", "c"),), 0.2, (("d", "e"),), some_pictures())
    shapes = []
    for text in (page_of(case, run=((EVIL, EVIL),)), page_of(honest, run=(("f", "g"),))):
        shapes.append([(tag, sorted(attributes)) for tag, attributes in Scan(text).elements])
    assert shapes[0] == shapes[1]


def test_a_name_that_is_no_unicode_is_shown_somehow() -> None:
    assert b"case-?" in render([PageCase("case-\udce4", "T2", "done")], run=(), detail=detail_for(1), version="1")


def test_the_page_names_nothing_outside_of_itself() -> None:
    text = page_of(PageCase("a", "T2", "done", pictures=some_pictures()))
    for tag, attributes in Scan(text).elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    policy = next(each["content"] for tag, each in Scan(text).elements if each.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    assert "@import" not in text and "url(" not in text


def test_a_hundred_cases_of_noise_stay_below_thirty_megabytes() -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (170, 170, 14)).astype(np.float32)
    pictures = pictures_of([("source", noise), ("synthetic", noise)], (1.0, 1.0, 1.0), detail_for(100))
    assert len(pictures.slices) >= 6
    cases = [PageCase(f"case{number}", "T1 → T2", "done", 1.0, pictures=pictures) for number in range(100)]
    assert 5e6 < len(page_of(*cases).encode()) < 30e6


def test_an_existing_page_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    arguments = {"run": (), "detail": detail_for(1), "version": "1"}
    with pytest.raises(OutputError):
        write_page(path, [], **arguments)  # type: ignore[arg-type]
    assert path.read_text() == "mine"
    size = write_page(path, [PageCase("a", "T2", "done")], **arguments, overwrite=True)  # type: ignore[arg-type]
    assert path.stat().st_size == size > 1000
