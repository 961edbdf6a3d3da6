"""The report page in a real browser: accessibility, keyboard, no network, and a cohort of 500."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imputer.report.page import Flag, PageCase, write_page
from imputer.report.page_images import detail_for

from .test_page import EVIL, some_pictures

playwright = pytest.importorskip("playwright.sync_api", reason="the extra dev is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra dev is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: chromium)")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def some_cases() -> list[PageCase]:
    flags = [
        (Flag("scope", "Slices are thick."), Flag("note", "12 NaN voxels set to 0")),
        (Flag("risk", "The risk score is 0.80."),),
        (Flag("page", "The source was not found."),),
        (),
    ]
    names = [("source", "synthetic"), ("source", "synthetic", "deviation"), ("synthetic",), ("source", "synthetic")]
    facts = (("Model", "tiny 1"), ("Seed", "0"))
    cases = [
        PageCase(f"sub-{10 - place}", "T1 → T2", "done", 10.0 + place, flag, (place * 3 % 5) / 5, facts, pictures)
        for place, (flag, pictures) in enumerate(
            zip(flags, [some_pictures(place, each) for place, each in enumerate(names)], strict=True)
        )
    ]
    cases.append(PageCase("broken", "T2", "failed", 0.2, (Flag("failed", "A file is damaged."),)))
    cases.append(PageCase("never", "T2", "open", None, (Flag("open", "It was not made in this run."),)))
    cases.append(PageCase("again", "T1 → T2", "done", 5.0, (Flag("broken", "It cannot be shown."),), 0.9))
    return [*cases, PageCase(EVIL, "T1 → T2", "done", 2.0, (Flag("scope", EVIL),), 0.1, facts, some_pictures())]


def put_page(path: Path, cases: list[PageCase]) -> Path:
    run = (("Model", "tiny 1"), ("Last run took", "0:01:02"))
    write_page(path, cases, run=run, detail=detail_for(len(cases)), version="1.2.3")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_page(tmp_path_factory.mktemp("page") / "report.html", some_cases())


class Visit:
    """A page that is open, what it asked for, and what it complained of."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": WIDE, **options})
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("dialog", lambda dialog: (self.faults.append("alert"), dialog.dismiss()))
        self.page.goto(path.as_uri())

    def names(self) -> list[str]:
        shown: list[str] = self.page.eval_on_selector_all(
            "#rows tr:not([hidden]) button.open", "all => all.map(each => each.textContent)"
        )
        return shown

    def focused(self) -> str:
        said: str = self.page.evaluate(
            "document.activeElement.id || document.activeElement.name || document.activeElement.textContent.trim()"
        )
        return said

    def pixels(self) -> str:
        """All canvases of the case that is open, as one string."""
        drawn: str = self.page.evaluate("[...document.querySelectorAll('canvas')].map(each => each.toDataURL()).join()")
        return drawn

    def open_case(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).press("Enter")
        self.page.wait_for_selector("dialog[open]")

    def wait_for_pictures(self) -> None:
        self.page.wait_for_function(
            "[...document.querySelectorAll('canvas')].every(each => "
            "each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some(value => value))"
        )


@pytest.fixture
def visit(browser: Any, small: Path) -> Iterator[Visit]:
    visit = Visit(browser, small)
    yield visit
    visit.context.close()
    assert visit.faults == []
    assert [url for url in visit.asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_serious(browser: Any, small: Path, scheme: str, size: dict[str, int]) -> None:
    visit = Visit(browser, small, color_scheme=scheme, viewport=size)
    found = []
    for name in (None, "sub-9", "broken"):
        if name is not None:
            visit.open_case(name)
        results = axe.Axe().run(visit.page).response
        assert len(results["passes"]) > 10
        found += [(name, each["id"], each["nodes"][0]["html"]) for each in results["violations"]
                  if each["impact"] in ("serious", "critical")]  # fmt: skip
        if name is not None:
            visit.page.keyboard.press("Escape")
    visit.context.close()
    assert found == []


def test_the_first_stop_of_the_keyboard_skips_to_the_cases(visit: Visit) -> None:
    visit.page.keyboard.press("Tab")
    assert visit.focused() == "Skip to the cases"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert visit.page.evaluate(outline) == "solid"
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    assert visit.focused() == "find"


def test_the_table_is_sorted_by_the_keyboard(visit: Visit) -> None:
    first = visit.names()
    heading = visit.page.locator("thead th.case")
    heading.get_by_role("button").focus()
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [name for name in visit.names() if name.startswith("sub-")] == ["sub-7", "sub-8", "sub-9", "sub-10"]
    visit.page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [name for name in visit.names() if name.startswith("sub-")] == ["sub-10", "sub-9", "sub-8", "sub-7"]
    visit.page.locator("thead th.risk button").press("Enter")
    assert heading.get_attribute("aria-sort") is None
    assert visit.names()[0] == "again" and set(visit.names()[-2:]) == {"broken", "never"}  # no score: last
    visit.page.locator("thead th.flags button").press("Enter")
    assert visit.names()[0] == "broken"
    assert sorted(visit.names()) == sorted(first)


def test_words_and_flags_narrow_the_table(visit: Visit) -> None:
    visit.page.locator("#only").press("Space")
    assert visit.names() == ["sub-10", "sub-9", "broken", "never", "again", EVIL]
    assert visit.page.inner_text("#count") == "6 of 8 shown"
    visit.page.locator("#find").fill("THICK slices")
    assert visit.names() == ["sub-10"]


def test_sliders_move_by_arrow_keys(visit: Visit) -> None:
    visit.open_case("sub-10")
    visit.wait_for_pictures()
    assert visit.focused() == "slice"
    slider = visit.page.locator("input[name=slice]")
    before, at = visit.pixels(), slider.get_attribute("aria-valuetext")
    visit.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != at
    assert visit.pixels() != before
    between = visit.page.locator("input[name=compare]")
    between.focus()
    visit.page.keyboard.press("Home")
    assert between.get_attribute("aria-valuetext") == "0 percent synthetic"
    drawn = visit.page.eval_on_selector_all("canvas", "all => all.map(each => each.toDataURL())")
    assert drawn[1] == drawn[0] != drawn[2]
    visit.page.keyboard.press("End")
    drawn = visit.page.eval_on_selector_all("canvas", "all => all.map(each => each.toDataURL())")
    assert drawn[1] == drawn[2] != drawn[0]


def test_cases_follow_each_other_in_the_order_of_the_table(visit: Visit) -> None:
    visit.page.locator("thead th.seconds button").press("Enter")
    names = visit.names()
    visit.open_case(names[0])
    visit.page.get_by_role("button", name="Next").press("Enter")
    assert visit.page.inner_text("#viewer-title").startswith(names[1])
    visit.page.keyboard.press("Escape")
    assert visit.page.locator("dialog[open]").count() == 0
    # The browser gives the focus back to what opened the dialog; the page moves it when it hears of the closing.
    visit.page.wait_for_function("name => document.activeElement.textContent.trim() === name", arg=names[1])


def test_a_case_without_a_source_says_so(visit: Visit) -> None:
    visit.open_case("sub-8")
    assert "the synthetic volume is shown alone" in visit.page.inner_text("dialog")
    assert visit.page.locator("canvas").count() == 1
    assert visit.page.locator("input[name=compare]").count() == 0


def test_a_case_that_failed_shows_its_message(visit: Visit) -> None:
    visit.open_case("broken")
    said = visit.page.inner_text("dialog")
    assert "A file is damaged." in said and "There is no picture" in said


def test_markup_in_a_case_is_text(visit: Visit) -> None:
    visit.open_case(EVIL)
    visit.wait_for_pictures()
    assert EVIL in visit.page.inner_text("#viewer-title")
    assert visit.page.locator("dialog img, dialog script").count() == 0


def test_a_narrow_window_needs_no_scrolling_sideways(browser: Any, small: Path) -> None:
    visit = Visit(browser, small, viewport=NARROW)
    visit.open_case("sub-9")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert visit.page.evaluate("document.querySelector('dialog').scrollWidth") <= NARROW["width"]
    visit.context.close()


def test_five_hundred_cases_load_sort_and_open(browser: Any, tmp_path: Path) -> None:
    pictures = some_pictures(size=96)
    flag = (Flag("scope", "Slices are thick."),)
    cases = [
        PageCase(f"sub-{n:03d}", "T1 → T2", "done", n * 7 % 500 / 10, flag if n % 9 == 0 else (), n / 500, (), pictures)
        for n in range(500)
    ]
    visit = Visit(browser, put_page(tmp_path / "large.html", cases))
    assert len(visit.names()) == 500
    visit.page.locator("thead th.risk button").press("Enter")
    assert visit.names()[:2] == ["sub-499", "sub-498"]
    visit.page.locator("thead th.seconds button").press("Enter")
    assert len(set(visit.names())) == 500
    visit.open_case("sub-250")
    visit.wait_for_pictures()
    assert visit.page.locator("canvas").count() == 3  # of the open case alone
    assert visit.faults == []
    visit.context.close()
