"""A worker: results as `synthesise` makes them, failures as records, stopping, and few cases in memory at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from imputer.batch.jobs import DONE, FAILED, Job, Record
from imputer.batch.worker import Worker, WorkerSettings, complete_outputs
from imputer.case import Settings
from imputer.errors import OutputError
from imputer.files import sha256_of
from imputer.methods.base import cpu_threads, use_cpu_threads
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.synth import synthesise
from imputer.volume import Volume


def never() -> bool:
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small heads, t1_0.nii.gz to t1_3.nii.gz, and a folder for results."""
    (tmp_path / "out").mkdir()
    for number in range(4):
        head = make_head([Modality.T1], shape=(48, 52, 4), spacing=(4.0, 4.0, 30.0), seed=number)[Modality.T1]
        nibabel.save(Nifti1Image(head.array, head.affine), tmp_path / f"t1_{number}.nii.gz")
    return tmp_path


def job(folder: Path, number: int) -> Job:
    output = folder / "out" / f"made_{number}.nii.gz"
    return Job(f"{number}:t2", str(number), folder / f"t1_{number}.nii.gz", Modality.T1, Modality.T2, output)


def worker(folder: Path, model: Path, **case: object) -> Worker:
    settings = Settings(to=Modality.T2, **{"steps": 1, **case})  # type: ignore[arg-type]
    return Worker(WorkerSettings(settings, folder / "out", model=str(model), tag="test-"), "cpu")


def test_the_same_volumes_as_one_at_a_time(folder: Path, tiny_model: Path) -> None:
    records = list(worker(folder, tiny_model).run([job(folder, number) for number in range(4)], never))
    assert sorted(record.id for record in records) == ["0:t2", "1:t2", "2:t2", "3:t2"]
    for number, record in enumerate(sorted(records, key=lambda each: each.id)):
        assert (record.status, record.message, record.exit_code) == (DONE, "", 0)
        assert record.slices > 0 and record.seconds > 0
        made = folder / "out" / f"made_{number}.nii.gz"
        alone = folder / f"alone_{number}.nii.gz"
        synthesise(folder / f"t1_{number}.nii.gz", to="t2", model=tiny_model, steps=1, output=alone, device="cpu")
        assert made.read_bytes() == alone.read_bytes()
        names = (f"made_{number}.json", f"made_{number}.nii.gz")
        assert record.outputs == tuple((name, sha256_of(folder / "out" / name)) for name in names)


def test_a_bad_case_is_a_record_and_the_others_go_on(folder: Path, tiny_model: Path) -> None:
    (folder / "t1_1.nii.gz").write_bytes(b"not a volume")
    (folder / "t1_2.nii.gz").unlink()
    records = {each.id: each for each in worker(folder, tiny_model).run([job(folder, n) for n in range(4)], never)}
    assert [records[f"{n}:t2"].status for n in range(4)] == [DONE, FAILED, FAILED, DONE]
    assert "t1_1.nii.gz" in records["1:t2"].message and records["1:t2"].exit_code == 3
    assert "does not exist" in records["2:t2"].message
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "made_0.json",
        "made_0.nii.gz",
        "made_3.json",
        "made_3.nii.gz",
    ]


def test_an_error_that_nobody_foresaw_is_told_by_its_kind_only(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of Mr Secret")

    monkeypatch.setattr("imputer.batch.worker.prepare_case", broken)
    (record,) = worker(folder, tiny_model).run([job(folder, 0)], never)
    assert (record.status, record.exit_code) == (FAILED, 1)
    assert "ZeroDivisionError" in record.message and "Secret" not in record.message


def test_a_full_disk_is_fatal(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)  # by which the sidecar is written
    (record,) = worker(folder, tiny_model).run([job(folder, 0)], never)
    assert record.fatal and record.exit_code == 6 and "space" in record.message
    assert list((folder / "out").iterdir()) == []


def test_stopping_drops_the_case_at_hand(folder: Path, tiny_model: Path) -> None:
    asked: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(4):
            asked.append(number)
            yield job(folder, number)

    records: list[Record] = []
    records.extend(worker(folder, tiny_model).run(jobs(), lambda: bool(asked[1:])))
    assert len(records) < len(asked)
    finished = {f"made_{record.case}.nii.gz" for record in records if record.status == DONE}
    assert {path.name for path in (folder / "out").glob("*.nii.gz")} == finished
    assert not list((folder / "out").glob(".imputer*"))


def test_what_the_giver_of_jobs_raises_is_not_lost(folder: Path, tiny_model: Path) -> None:
    def jobs() -> Iterator[Job]:
        yield job(folder, 0)
        raise OutputError("The ledger cannot be written.")

    records = []
    with pytest.raises(OutputError, match="ledger"):
        for record in worker(folder, tiny_model).run(jobs(), never):
            records.append(record.status)
    assert records == [DONE]


def test_a_consumer_that_leaves_ends_the_threads(folder: Path, tiny_model: Path) -> None:
    import threading

    records = worker(folder, tiny_model).run([job(folder, number) for number in range(4)], never)
    next(records)
    records.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name in ("reader", "writer"):
            thread.join(timeout=30)
            assert not thread.is_alive()


def test_few_volumes_are_in_memory_at_a_time(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Volume] = weakref.WeakSet()
    most = 0
    from imputer.batch import worker as module

    read = module.read_case

    def counted(*arguments: object) -> object:
        nonlocal most
        case = read(*arguments)  # type: ignore[arg-type]
        alive.add(case.volume)
        gc.collect()
        most = max(most, len(alive))
        return case

    monkeypatch.setattr(module, "read_case", counted)
    jobs = [
        Job(f"{n}:t2", str(n), folder / "t1_0.nii.gz", Modality.T1, Modality.T2, folder / "out" / f"{n}.nii")
        for n in range(15)
    ]
    records = list(worker(folder, tiny_model).run(jobs, never))
    assert len(records) == 15 and all(record.status == DONE for record in records)
    assert 1 <= most <= 6


def test_only_whole_outputs_are_taken_for_complete(folder: Path, tiny_model: Path) -> None:
    (record,) = worker(folder, tiny_model, preview=True).run([job(folder, 0)], never)
    settings = Settings(to=Modality.T2, steps=1, preview=True)
    again = complete_outputs(job(folder, 0), settings, folder / "out")
    assert again is not None and again.outputs == record.outputs
    for name in ("made_0.png", "made_0.json", "made_0.nii.gz"):
        path = folder / "out" / name
        kept = path.read_bytes()
        path.unlink()
        assert complete_outputs(job(folder, 0), settings, folder / "out") is None
        path.write_bytes(kept)
    np.testing.assert_equal(record.status, DONE)


def test_all_processes_compute_with_the_threads_of_the_first(folder: Path) -> None:
    """The last bits of a result on a CPU depend on the number of threads."""
    before = cpu_threads()
    try:
        Worker(WorkerSettings(Settings(to=Modality.T2), folder / "out", threads=before + 2), "cpu")
        assert cpu_threads() == before + 2
    finally:
        use_cpu_threads(before)
