"""The ledger survives crashes, tells what is done by hash, and lets one run at a time work on a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imputer.batch.jobs import DONE, FAILED, Record
from imputer.batch.ledger import Ledger, Part, check_settings, compact, only_here
from imputer.errors import OutputError, UsageError
from imputer.files import sha256_of

PART = Part()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / ".imputer").mkdir()
    return tmp_path


def done(out: Path, name: str, text: str = "voxels") -> Record:
    (out / name).write_text(text)
    return Record(f"{name}:t2", name, DONE, seconds=1.5, slices=3, outputs=((name, sha256_of(out / name)),))


def test_what_was_done_is_known_to_the_next_run(out: Path) -> None:
    with Ledger(out, PART) as ledger:
        ledger.begin("a:t2", is_ours=True)
        ledger.end(done(out, "a"))
        ledger.begin("b:t2", is_ours=True)
    again = Ledger(out, PART)
    assert again.is_done("a:t2") and not again.is_done("b:t2") and not again.is_done("c:t2")
    assert again.begun == {"b:t2"}
    assert again.known["a:t2"].slices == 3


def test_what_others_had_put_there_is_not_taken_for_half_made(out: Path) -> None:
    with Ledger(out, PART) as ledger:
        ledger.begin("a:t2", is_ours=False)
    assert Ledger(out, PART).begun == set()


def test_a_changed_or_missing_output_is_not_done(out: Path) -> None:
    with Ledger(out, PART) as ledger:
        ledger.end(done(out, "a"))
        ledger.end(done(out, "b"))
    (out / "a").write_text("others")
    (out / "b").unlink()
    again = Ledger(out, PART)
    assert not again.is_done("a:t2") and not again.is_done("b:t2")


def test_a_failure_is_not_done_and_the_last_line_counts(out: Path) -> None:
    with Ledger(out, PART) as ledger:
        ledger.end(Record("a:t2", "a", FAILED, "It is damaged.", 3))
        assert not ledger.is_done("a:t2")
        ledger.end(done(out, "a"))
    assert Ledger(out, PART).is_done("a:t2")


@pytest.mark.parametrize("torn", [b'{"id": "b:t2", "sta', b"\xff\x00", b"[]", b'{"id": 3}', b"null"])
def test_a_torn_line_is_as_if_never_written(torn: bytes, out: Path) -> None:
    with Ledger(out, PART) as ledger:
        ledger.end(done(out, "a"))
    path = out / ".imputer" / f"ledger-{PART.name}.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    with Ledger(out, PART) as ledger:
        assert ledger.is_done("a:t2")
        ledger.end(done(out, "c"))
    assert Ledger(out, PART).is_done("c:t2")


def test_parts_see_each_others_work(out: Path) -> None:
    for number in (1, 2):
        with Ledger(out, Part(number, 2)) as ledger:
            ledger.end(done(out, f"case{number}"))
    whole = Ledger(out, PART)
    assert whole.is_done("case1:t2") and whole.is_done("case2:t2")


def test_compacting_keeps_one_line_a_job_in_order(out: Path) -> None:
    with Ledger(out, PART) as ledger:
        for name in "ba":
            ledger.begin(f"{name}:t2", is_ours=True)
            ledger.end(done(out, name))
        ledger.begin("c:t2", is_ours=True)
    compact(out, PART)
    lines = (out / ".imputer" / f"ledger-{PART.name}.jsonl").read_text().splitlines()
    assert [(json.loads(line)["id"], json.loads(line)["status"]) for line in lines] == [
        ("a:t2", DONE),
        ("b:t2", DONE),
        ("c:t2", "begun"),
    ]


def test_other_settings_do_not_mix(out: Path) -> None:
    check_settings(out, {"model": "a", "seed": 0}, PART, overwrite=False)
    with Ledger(out, PART) as ledger:
        ledger.end(done(out, "a"))
    check_settings(out, {"model": "a", "seed": 0}, PART, overwrite=False)
    with pytest.raises(UsageError, match=r"other settings \(model\).*--overwrite"):
        check_settings(out, {"model": "b", "seed": 0}, PART, overwrite=False)
    check_settings(out, {"model": "b", "seed": 0}, PART, overwrite=True)
    with pytest.raises(UsageError, match="model"):
        check_settings(out, {"model": "a", "seed": 0}, PART, overwrite=False)


def test_settings_of_which_nothing_came_give_way(out: Path) -> None:
    check_settings(out, {"sampler": "ddim"}, PART, overwrite=False)
    with Ledger(out, PART) as ledger:
        ledger.begin("a:t2", is_ours=True)
        ledger.end(Record("a:t2", "a", FAILED, "Model m has one sampler and no eta.", 2))
    check_settings(out, {"sampler": None}, PART, overwrite=False)
    with Ledger(out, PART) as ledger:
        ledger.begin("b:t2", is_ours=True)  # killed at it
    with pytest.raises(UsageError, match="sampler"):
        check_settings(out, {"sampler": "ddim"}, PART, overwrite=False)


def test_settings_of_a_part_at_work_do_not_give_way(out: Path) -> None:
    check_settings(out, {"seed": 0}, Part(1, 2), overwrite=False)
    with only_here(out, Part(1, 2)), pytest.raises(UsageError, match="seed"):
        check_settings(out, {"seed": 1}, Part(2, 2), overwrite=False)
    check_settings(out, {"seed": 1}, Part(2, 2), overwrite=False)


HOLD = """
import sys
from pathlib import Path
from imputer.batch.ledger import Part, only_here
with only_here(Path(sys.argv[1]), Part(int(sys.argv[2]), int(sys.argv[3]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("other", "clashes"), [(Part(1, 2), True), (Part(2, 2), False), (Part(1, 1), True)])
def test_one_run_at_a_time(other: Part, clashes: bool, out: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(out), "1", "2"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        if clashes:
            with pytest.raises(OutputError, match=f"process {holder.pid} on "), only_here(out, other):
                pass
        else:
            with only_here(out, other):
                pass
        holder.kill()  # a lock of the dead holds nobody up
    with only_here(out, other):
        pass
    assert not [path for path in os.listdir(out / ".imputer") if path == f"part-{other.name}.json"]
