"""imputer report, and the page that imputer batch writes at its end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import write_head

from imputer.batch import last_page
from imputer.modality import Modality

from .conftest import Run, assert_refused


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases of a T1 in a flat folder."""
    folder = tmp_path_factory.mktemp("heads")
    for number in range(2):
        write_head(folder / f"case{number}_t1.nii.gz", Modality.T1, seed=number)
    return folder


@pytest.fixture
def words(heads: Path, tiny_model: Path, tmp_path: Path) -> list[object]:
    return ["batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast"]


def told(page: Path) -> dict[str, Any]:
    """What a page holds of each case, by its name."""
    islands = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"))
    return {case["name"]: case for case in map(json.loads, islands)}


def shown(case: dict[str, Any]) -> list[str]:
    return [volume["name"] for volume in case["pictures"]["volumes"]] if case["pictures"] else []


def test_a_batch_ends_with_its_page(run: Run, words: list[object], tmp_path: Path) -> None:
    assert run(*words).exit_code == 0
    cases = told(tmp_path / "out" / "report.html")
    assert {name: shown(case) for name, case in cases.items()} == {
        "case0": ["source", "synthetic"],
        "case1": ["source", "synthetic"],
    }


def test_a_batch_that_goes_on_writes_its_page_again(run: Run, words: list[object], tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    assert run(*words, "--no-report").exit_code == 0
    assert not page.exists()
    assert run(*words).exit_code == 0
    assert page.exists()
    page.write_text("old")
    assert run(*words).exit_code == 0
    assert set(told(page)) == {"case0", "case1"}


def test_a_page_that_cannot_be_written_is_a_warning(
    run: Run, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "warning: report.html was not written" in result.stderr

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret of a header")

    monkeypatch.setattr(last_page, "make_report", fail)
    result = run(*words)
    assert result.exit_code == 0
    assert "ZeroDivisionError" in result.stderr and "secret" not in result.stderr


def test_the_last_of_the_parts_writes_the_page_of_all(run: Run, words: list[object], tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    assert run(*words, "--num-parts", "2", "--part-id", "2").exit_code == 0
    assert not page.exists()
    assert run(*words, "--num-parts", "2", "--part-id", "1").exit_code == 0
    assert [shown(case) for case in told(page).values()] == [["source", "synthetic"]] * 2


def test_a_failed_case_is_on_the_page(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(heads, folder)
    (folder / "case1_t1.nii.gz").write_text("no volume")
    assert run("batch", folder, out, "--to", "t2", "-m", tiny_model, "--fast").exit_code == 8
    case = told(out / "report.html")["case1"]
    assert case["status"] == "failed" and case["flags"][0][0] == "failed"
    assert "case1_t1" not in (out / "report.html").read_text(encoding="utf-8")


def test_a_dicom_tree_has_its_sources_on_the_page(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    from dicom_phantom import make_series

    make_series(tmp_path / "in" / "one" / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))
    for kind in ("dicom", "nifti"):
        out = tmp_path / kind
        words = ["--to", "t2", "-m", tiny_model, "--fast", "-ot", kind]
        assert run("batch", tmp_path / "in", out, *words).exit_code == 0
        cases = told(out / "report.html")
        assert {name: shown(case) for name, case in cases.items()} == {"one": ["source", "synthetic"]}, kind


def test_the_command_writes_a_page_and_says_where(run: Run, words: list[object], tmp_path: Path) -> None:
    assert run(*words, "--no-report").exit_code == 0
    result = run("report", tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    assert (result.exit_code, result.stdout) == (0, f"{page}\n")
    assert "2 volumes" in result.stderr
    assert_refused(run("report", tmp_path / "out"), 6, "report.html", "--overwrite")
    again = run("report", tmp_path / "out", "--overwrite", "-q")
    assert (again.exit_code, again.stderr) == (0, "")
    assert run("report", tmp_path / "out", "-o", tmp_path / "other.html").exit_code == 0
    assert set(told(tmp_path / "other.html")) == {"case0", "case1"}


def test_what_is_no_run_is_refused(run: Run, tmp_path: Path) -> None:
    assert_refused(run("report", tmp_path / "nowhere"), 3, "nowhere", "no folder")
    assert_refused(run("report", tmp_path), 3, "no results")
    assert list(tmp_path.iterdir()) == []


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    write_head(tmp_path / "t1_synth-t2.nii.gz", Modality.T2)
    (tmp_path / "t1_synth-t2.json").write_text('{"synthetic": true, "from": "t1", "to": "t2"}')
    ask = "import sys; from imputer.batch.report import make_report; from pathlib import Path\n"
    ask += "make_report(Path(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert (tmp_path / "report.html").is_file()
