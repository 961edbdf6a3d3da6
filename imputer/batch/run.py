"""A batch: the plan, the jobs that are still to do, an engine that works them off, the ledger that remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from imputer import __version__, files
from imputer.batch.jobs import DONE, FAILED, Job, Record
from imputer.batch.ledger import FOLDER, Ledger, check_settings, compact, only_here
from imputer.batch.places import note_places
from imputer.batch.plan import Plan, plan
from imputer.batch.request import Batch, part_of
from imputer.batch.summary import Summary, write_summary
from imputer.batch.worker import Worker, WorkerSettings, complete_outputs, make_worker, outputs_of
from imputer.engines import devices as devices_engine
from imputer.engines import serial
from imputer.errors import InputError, OutputError
from imputer.io.bids import write_dataset_description
from imputer.io.cases import find_cohort
from imputer.methods.base import cpu_threads
from imputer.modality import Modality, split_role
from imputer.processors import processors
from imputer.style import read_style
from imputer.weights import hub
from imputer.weights.choice import makes
from imputer.weights.fields import SUFFIX
from imputer.weights.find import matching
from imputer.weights.manifest import Embedded, Entry, HubFile
from imputer.weights.package import entry_of
from imputer.weights.store import all_entries


@dataclass(frozen=True)
class Watcher:
    """Whom a run tells what happens.

    Parameters
    ----------
    started : called with the number of all jobs of this part and of those that were done before.
    ended : called with each record, and the job.
    stop : asked whether the run shall end early.
    """

    started: Callable[[int, int], None]
    ended: Callable[[Job, Record], None]
    stop: Callable[[], bool]


def plan_batch(batch: Batch) -> Plan:
    """Find the cases and say what would be made of them; writes nothing.

    Raises
    ------
    ImputerError
        InputError where the input folder holds no case, UsageError where the output would lie in the wrong place,
        ModelError where no model makes what is asked for.
    """
    _check_places(batch)
    return _planned(batch, _entries(batch))


def _planned(batch: Batch, entries: Sequence[Entry]) -> Plan:
    if batch.case.style_from is not None:
        read_style(batch.case.style_from, (*batch.targets, *batch.complete))  # before any case is
    cohort = find_cohort(batch.root, layout=batch.layout, participants=batch.participants, out=batch.out)

    # Several sources enter where that is asked for: a model that was brought in shall not change what batches make.
    joint = [entry for entry in entries if not entry.any_one_source and batch.model is not None]

    def pairs(source: Modality, target: Modality) -> bool:
        takes = any(source in entry.sources and target in entry.targets for entry in joint)
        return takes or any(makes(entry, source, target) for entry in entries)

    def together(source: Modality, target: Modality, there: Collection[Modality]) -> tuple[Modality, ...] | None:
        for entry in joint:
            others = tuple(each for each in entry.sources if each in there and each != source)
            if makes(entry, source, target, others):
                return others
        return () if any(makes(entry, source, target) for entry in entries) else None

    return plan(
        cohort,
        targets=batch.targets,
        complete=batch.complete,
        from_=batch.from_,
        out=batch.out,
        pairs=pairs,
        together=together,
        kinds=batch.case.output_types,
        brats=batch.brats_names,
    )


def run_batch(batch: Batch, watcher: Watcher) -> Summary:
    """Make what is planned and not yet made. A case that fails does not stop the others.

    Returns
    -------
    Summary
        What came of every job; written to `cases.csv` and `run.json` too.

    Raises
    ------
    ImputerError
        As `plan_batch`; UsageError where the output folder holds results of other settings, OutputError where it cannot
        be written or another run is at work on it.
    """
    _check_places(batch)
    entries = _entries(batch)
    planned = _planned(batch, entries)
    files.make_folder(batch.out)
    with only_here(batch.out, batch.part):
        check_settings(batch.out, _fingerprint(batch, entries), batch.part, overwrite=batch.case.overwrite)
        files.temporary_tag = f"{batch.part.name}-"
        if planned.layout == "bids":
            write_dataset_description(batch.out, source=batch.root)
        note_places(batch.out, planned.jobs)
        started = time.time()
        with Ledger(batch.out, batch.part) as ledger:
            ended_by = _work_off(batch, _pinned(batch, entries), planned, ledger, watcher)
        records = Ledger(batch.out, batch.part).known  # other parts may have gone on meanwhile
        compact(batch.out, batch.part)
        _remove_empty_folders(batch.out, planned)
        summary = Summary.of(batch, planned, records, started=started, ended_by=ended_by)
        write_summary(batch, summary)
    return summary


def _work_off(batch: Batch, model: str | None, planned: Plan, ledger: Ledger, watcher: Watcher) -> str:
    """Work off this part's open jobs; returns why it ended: "all", "stopped" or "full"."""
    mine = part_of(planned.jobs, batch.part)
    jobs = {job.id: job for job in mine}
    again = batch.case.overwrite
    begun = frozenset(job.id for job in mine if job.id in ledger.begun)
    _clear_away(batch, [jobs[job_id] for job_id in begun])
    if not again:
        for job_id in sorted(begun):
            record = complete_outputs(jobs[job_id], batch.case, batch.out)
            if record is not None:
                ledger.end(record)
    open_jobs = [job for job in mine if again or not ledger.is_done(job.id)]
    watcher.started(len(mine), len(mine) - len(open_jobs))
    settings = WorkerSettings(
        case=batch.case,
        root=batch.out,
        model=model,
        anatomy=batch.anatomy,
        offline=batch.offline,
        tag=files.temporary_tag,
        threads=cpu_threads(),
    )
    fatal: list[Record] = []
    for record in _engine(
        batch, _handed_out(open_jobs, begun, ledger, batch), settings, lambda: bool(fatal) or watcher.stop()
    ):
        ledger.end(record)
        watcher.ended(jobs[record.id], record)
        if record.fatal:
            fatal.append(record)
    _clear_away(batch, open_jobs)  # of workers that died
    return "full" if fatal else "stopped" if watcher.stop() else "all"


def _handed_out(jobs: Sequence[Job], begun: Set[str], ledger: Ledger, batch: Batch) -> Iterator[Job]:
    """Yield jobs as workers ask for them; each is noted and has its folder.

    Where nothing lies at a job's outputs now, or only what this run made, what lies there later is this run's too: a
    worker that takes the job over from one that died may replace it.
    """
    for job in jobs:
        known = ledger.known.get(job.id)
        was_done = known is not None and known.status == DONE
        is_ours = job.id in begun or was_done or not any(path.exists() for path in outputs_of(job, batch.case))
        ledger.begin(job.id, is_ours=is_ours)
        with suppress(OSError):  # the job itself says that its folder is missing
            job.output.parent.mkdir(parents=True, exist_ok=True)
        yield replace(job, may_replace=is_ours)


def _engine(batch: Batch, jobs: Iterator[Job], settings: WorkerSettings, stop: Callable[[], bool]) -> Iterator[Record]:
    make: Callable[[str], Worker] = partial(make_worker, settings)
    if batch.dask is not None:
        from imputer.engines import dask

        # As many processes as there are cores for, each with the threads of a run in one process: the same bits.
        processes = max(1, processors() // max(1, settings.threads))
        address = f"local:{processes}" if batch.dask == "local" else batch.dask
        return dask.run(jobs, make, address=address, device=batch.devices[0], stop=stop, on_lost=_lost)
    if len(batch.devices) > 1:
        return devices_engine.run(jobs, make, devices=batch.devices, stop=stop, on_lost=_lost)
    return serial.run(jobs, make, device=batch.devices[0], stop=stop, on_lost=_lost)


def _lost(job: Job, reason: str) -> Record:
    return Record(job.id, job.case, FAILED, reason, exit_code=5)


def _clear_away(batch: Batch, jobs: Sequence[Job]) -> None:
    """Delete the temporary files that this part left when it was killed."""
    for folder in {batch.out, batch.out / FOLDER, *(job.output.parent for job in jobs)}:
        files.remove_temporaries(folder, files.temporary_tag)


def _remove_empty_folders(out: Path, planned: Plan) -> None:
    """Delete the folders of cases of which nothing came."""
    for folder in sorted({job.output.parent for job in planned.jobs}, key=lambda path: len(path.parts), reverse=True):
        while folder != out and folder.is_relative_to(out):
            try:
                folder.rmdir()
            except OSError:  # not empty, or not there
                break
            folder = folder.parent


def _check_places(batch: Batch) -> None:
    root, out = batch.root.resolve(), batch.out.resolve()
    if not root.is_dir():
        raise InputError(f"{batch.root.name} is no folder.", remedy="Give the folder that holds the cases.")
    if batch.out.exists() and not batch.out.is_dir():
        raise OutputError(f"{batch.out.name} is a file.", remedy="Give a folder for the results.")
    if out == root or root.is_relative_to(out) or (out.is_relative_to(root) and "derivatives" not in out.parts):
        raise OutputError(
            "The output folder and the input folder lie inside each other.",
            remedy="Choose an output folder elsewhere, or derivatives/imputer in a BIDS dataset.",
        )


def _entries(batch: Batch) -> tuple[Entry, ...]:
    """The models that may be used."""
    if batch.model is None:
        return tuple(entry for entry in all_entries() if entry.is_runnable)
    if batch.model.endswith(SUFFIX):
        return (entry_of(Path(batch.model), Embedded("")),)
    return matching(batch.model, offline=batch.offline)


def _pinned(batch: Batch, entries: Sequence[Entry]) -> str | None:
    """The model's name; of one on the Hub at the commit that it has now, so that all cases get the same one.

    It also spares asking the Hub again for every case.
    """
    if batch.model is None or not batch.model.startswith(hub.SCHEME):
        return batch.model
    home = entries[0].home
    return f"{hub.SCHEME}{home.repo}@{home.revision}" if isinstance(home, HubFile) else batch.model


def _style_of(text: str) -> str:
    """What tells one reference scan from another: its modality, where given, name, and the hash of a file."""
    path, modality = split_role(text)
    return f"{modality or ''} {path.name} {files.sha256_of(path) if path.is_file() else ''}"


def _fingerprint(batch: Batch, entries: Sequence[Entry]) -> dict[str, Any]:
    """What outputs of one folder must have in common."""
    wanted = {*batch.targets, *batch.complete}
    case = batch.case
    return {
        "format": 1,
        "imputer": __version__,
        "to": [str(target) for target in batch.targets],
        "complete": [str(modality) for modality in batch.complete],
        "from": str(batch.from_ or ""),
        "model": Path(batch.model).name if batch.model is not None else "best fitting",
        "weights": {entry.id: entry.sha256 for entry in entries if wanted & set(entry.targets)},
        "anatomy": batch.anatomy or "",
        **({} if case.style_from is None else {"style": _style_of(case.style_from)}),
        "steps": case.steps or 0,
        "sampler": case.sampler,
        "eta": case.eta,
        "precision": case.precision,
        "seed": case.seed,
        "samples": case.samples,
        "output_types": list(case.output_types),
        "select": list(case.select),
        "preview": case.preview,
        "force": case.force,
        "brats_names": batch.brats_names,
    }
