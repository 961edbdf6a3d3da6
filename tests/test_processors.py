"""How many processors there are for a process, told by files like those of the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imputer import processors as module
from imputer.processors import processors, share_processors


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 64 processors whose control groups are files of ours."""
    monkeypatch.setattr(module, "_tied_to", lambda: 64)
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_all_are_there(machine: Path) -> None:
    put(machine / "cpu.max", "max 100000\n")
    assert processors() == 64


@pytest.mark.parametrize(("quota", "count"), [("400000 100000", 4), ("250000 100000", 3), ("5000 100000", 1)])
def test_a_container_of_version_2_has_its_share(machine: Path, quota: str, count: int) -> None:
    put(machine / "cpu.max", quota + "\n")
    assert processors() == count


def test_the_own_group_and_those_above_it_limit(machine: Path) -> None:
    put(machine / "own", "12:memory:/elsewhere\n0::/work.slice/job.scope\n")
    put(machine / "work.slice" / "cpu.max", "800000 100000\n")
    assert processors() == 8
    put(machine / "work.slice" / "job.scope" / "cpu.max", "200000 100000\n")
    assert processors() == 2


@pytest.mark.parametrize(("quota", "count"), [("600000", 6), ("-1", 64)])
def test_a_container_of_version_1_has_its_share(machine: Path, quota: str, count: int) -> None:
    put(machine / "cpu" / "cpu.cfs_quota_us", quota + "\n")
    put(machine / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert processors() == count


def test_damaged_files_are_no_limit(machine: Path) -> None:
    put(machine / "cpu.max", "much\n")
    put(machine / "own", "0::/../../elsewhere\n")
    assert processors() == 64


def test_threads_are_told_where_the_share_is_smaller_than_the_machine(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    share_processors()
    assert "OMP_NUM_THREADS" not in os.environ
    put(machine / "cpu.max", "400000 100000\n")
    share_processors()
    assert os.environ["OMP_NUM_THREADS"] == "4"


def test_what_the_user_has_set_stays(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "cpu.max", "400000 100000\n")
    monkeypatch.setattr(os, "environ", {**os.environ, "OMP_NUM_THREADS": "12"})
    share_processors()
    assert os.environ["OMP_NUM_THREADS"] == "12"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux ties a process to processors so")
def test_a_process_that_is_tied_to_one_processor_has_one() -> None:
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    script += "from imputer.processors import processors; print(processors())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
