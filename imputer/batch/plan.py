"""Who lacks what, and what will be made of what: the jobs of a batch, before any volume is read.

A source is always a real scan: what is synthetic the search for cases leaves out, and no job starts from the result of
another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from imputer.batch.jobs import Job
from imputer.errors import ModelError, UsageError
from imputer.files import strip_suffixes
from imputer.io.cases import Case, Cohort, output_of, told_by_headers
from imputer.io.cohort import Remarks, same_name
from imputer.modality import Modality

T1, T1CE, T2, FLAIR, PD, CT = Modality
# From what a contrast is made best, by what is published of one source at a time, as PSNR in dB.
# SynDiff, table II (IXI): T2 to PD 35.5, T1 to PD 30.9; PD to T2 33.6, T1 to T2 30.3; T2 to T1 30.4, PD to T1 30.1.
# Table III (BRATS): T2 to FLAIR 28.2, T1 to FLAIR 26.5; T1 to T2 27.1, FLAIR to T2 26.8; T2 to T1 28.9, FLAIR 26.5.
# Table IV: T2 to CT 26.9, T1 to CT 25.2. ALDM, table 2, with T1CE: to T1 26.2, where T2 has 25.4; to FLAIR 25.2, where
# T2 has 25.1 and T1 24.8; to T1CE from T1 26.1, FLAIR 25.9, T2 25.2.
# What nobody measured stands last, and CT, which hardly tells soft tissues, after all others.
PREFERRED: dict[Modality, tuple[Modality, ...]] = {
    T1: (T1CE, T2, PD, FLAIR, CT),
    T1CE: (T1, FLAIR, T2, PD, CT),
    T2: (PD, T1, FLAIR, T1CE, CT),
    FLAIR: (T2, T1CE, T1, PD, CT),
    PD: (T2, T1, FLAIR, T1CE, CT),
    CT: (T2, T1, T1CE, PD, FLAIR),
}
COLUMNS = ["case", "has", "lacks", "will be made", "cannot be made"]
UNTOLD_STUDY = "the headers of the study tell no contrast; say what to make with --to"
UNTOLD = "unknown"  # modality of a source that only reading tells

Pairs = Callable[[Modality, Modality], bool]
Together = Callable[[Modality, Modality, Collection[Modality]], tuple[Modality, ...] | None]


@dataclass(frozen=True)
class Lack:
    """What a case lacks of what was asked for.

    Parameters
    ----------
    case : its id.
    has : modalities that are there, by their names.
    missing : modalities asked for that are not.
    made : (modality, of which one) that there is a job for; of None where only reading the source tells.
    cannot : (modality, why not).
    """

    case: str
    has: tuple[Modality, ...]
    missing: tuple[Modality, ...]
    made: tuple[tuple[Modality, Modality | None], ...]
    cannot: tuple[tuple[Modality, str], ...]


@dataclass(frozen=True)
class Plan:
    """What a batch will do.

    Parameters
    ----------
    jobs : what will be made, in the order of cases.
    lacking : the cases that lack something, sorted.
    problems : (case or path, sentence): what could not be taken as input, then what cannot be made.
    notes : (case or path, sentence): what was decided where there was a choice.
    wanted : modalities asked for.
    complete : number of cases that lack nothing.
    root, out : folders of the input and of the results.
    layout : of the cohort.
    """

    jobs: tuple[Job, ...]
    lacking: tuple[Lack, ...]
    problems: Remarks
    notes: Remarks
    wanted: tuple[Modality, ...]
    complete: int
    root: Path
    out: Path
    layout: str

    def table(self) -> list[list[str]]:
        """A heading and a row for each case that lacks something."""
        rows = [
            [
                lack.case,
                ", ".join(lack.has) or "-",
                ", ".join(lack.missing),
                ", ".join(f"{target} from {source or UNTOLD}" for target, source in lack.made) or "-",
                "; ".join(f"{target}: {why}" for target, why in lack.cannot) or "-",
            ]
            for lack in self.lacking
        ]
        return [COLUMNS, *rows]

    def to_json(self) -> dict[str, Any]:
        """As plain data; paths relative to the folders of the input and of the results."""
        return {
            "layout": self.layout,
            "wanted": list(self.wanted),
            "cases": self.complete + len(self.lacking),
            "complete": self.complete,
            "jobs": [
                {
                    "id": job.id,
                    "case": job.case,
                    "source": job.source.relative_to(self.root).as_posix(),
                    "from": job.role,
                    **({"with": [role for role, _ in job.beside]} if job.beside else {}),
                    "to": job.target,
                    "output": job.output.relative_to(self.out).as_posix(),
                }
                for job in self.jobs
            ],
            "lacking": [
                {
                    "case": lack.case,
                    "has": list(lack.has),
                    "missing": list(lack.missing),
                    "made": {target: {"from": source} for target, source in lack.made},
                    "cannot": dict(lack.cannot),
                }
                for lack in self.lacking
            ],
            "problems": [{"of": of, "message": message} for of, message in self.problems],
            "notes": [{"of": of, "message": message} for of, message in self.notes],
        }


@dataclass
class _Draft:
    """A case while it is planned."""

    case: Case
    missing: tuple[Modality, ...]
    jobs: dict[Modality, Job] = field(default_factory=dict)
    cannot: dict[Modality, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """What was asked for; `plan` explains each."""

    targets: tuple[Modality, ...]
    completing: bool
    from_: Modality | None
    pairs: Pairs
    together: Together


def plan(
    cohort: Cohort,
    *,
    targets: Sequence[Modality] = (),
    complete: Sequence[Modality] = (),
    from_: Modality | None = None,
    out: Path,
    pairs: Pairs,
    together: Together = lambda source, target, there: (),
    kinds: Sequence[str] = (),
    brats: bool = False,
) -> Plan:
    """Plan a batch: for every case what it lacks, from the best of its scans that a model takes.

    Parameters
    ----------
    targets : modalities to make wherever they are missing (``--to``).
    complete : modalities that every case shall have in the end (``--complete``); this or `targets`.
    from_ : source to start from; None: the best one by `PREFERRED`. Also the modality of images that tell none.
    out : folder of the results.
    pairs : tells whether there is a model from one modality to another.
    together : of a source, a target and the contrasts that a case has: those that enter beside the source; None where
        its model needs more than there is.
    kinds : output types, "nifti" and "dicom"; empty: as the input is.
    brats : names of the results as in BraTS; see `imputer.io.outputs.output_of`.

    Raises
    ------
    UsageError
        For both or neither of `targets` and `complete`, a source that is a target, or BraTS names of BIDS or DICOM.
    ModelError
        Where no model makes one of `targets`.
    """
    if bool(targets) == bool(complete):
        raise UsageError("Say what to make: either with --to or with --complete.")
    wanted = tuple(dict.fromkeys((*targets, *complete)))
    if targets and from_ in targets:
        raise UsageError(f"Source and target are both {from_}.", remedy="Ask for another modality with --to.")
    asked = _Asked(wanted, bool(complete), from_, cache(pairs), together)
    for target in targets:
        _check_model(target, asked)
    out = Path(out)

    def place(case: Case, target: Modality, source: Path) -> Path:
        return output_of(case, target, cohort.root, out, source=source, kinds=tuple(kinds), brats=brats)

    cases = [told_by_headers(case) for case in cohort.cases] if complete else cohort.cases
    drafts = [_draft(case, asked, place) for case in cases]
    lacking = [draft for draft in drafts if draft.missing]
    _refuse_clashes(lacking)
    _refuse_inputs(lacking, cohort)
    return Plan(
        jobs=tuple(job for draft in lacking for job in draft.jobs.values()),
        lacking=tuple(_frozen(draft) for draft in lacking),
        problems=(*cohort.problems, *(problem for draft in lacking for problem in _problems(draft))),
        notes=cohort.notes,
        wanted=wanted,
        complete=len(drafts) - len(lacking),
        root=cohort.root,
        out=out,
        layout=cohort.layout,
    )


def _check_model(target: Modality, asked: _Asked) -> None:
    """Raise ModelError where no case can ever get a contrast."""
    sources = PREFERRED[target] if asked.from_ is None else (asked.from_,)
    if not any(asked.pairs(source, target) for source in sources):
        beginning = "" if asked.from_ is None else f" from {asked.from_}"
        raise ModelError(
            f"There is no model that makes {target}{beginning}.", remedy="See what there is with 'imputer models list'."
        )


def _draft(case: Case, asked: _Asked, place: Callable[[Case, Modality, Path], Path]) -> _Draft:
    missing = tuple(each for each in asked.targets if each not in case.scans and each not in case.ambiguous)
    draft = _Draft(case, missing)
    for target in missing:
        source = _source(case, target, asked)
        if isinstance(source, str):
            draft.cannot[target] = source
            continue
        role, path = source
        there = case.scans if asked.from_ is None else ()
        beside = () if role is None else asked.together(role, target, there)
        if beside is None:
            draft.cannot[target] = "the model needs more sources than there are"
            continue
        job = Job(f"{case.id}:{target}", case.id, path, role, target, place(case, target, path))
        draft.jobs[target] = replace(job, beside=tuple((other, case.scans[other]) for other in beside))
    return draft


def _source(case: Case, target: Modality, asked: _Asked) -> tuple[Modality | None, Path] | str:
    """Return what a contrast of a case is made from, or why it cannot be made."""
    from_ = asked.from_
    if case.layout == "dicom" and case.unknown:
        return UNTOLD_STUDY if asked.completing else (from_, case.unknown[0])
    if from_ == target:
        return f"{from_} is to be the source"
    if from_ is not None:
        path = case.scans.get(from_)
        if path is None and len(case.unknown) == 1 and from_ not in case.ambiguous:
            path = case.unknown[0]
        if path is None:
            return f"there is no {from_}" if from_ not in case.ambiguous else f"there is more than one {from_}"
        return (from_, path) if asked.pairs(from_, target) else f"there is no model from {from_}"
    for source in PREFERRED[target]:
        if source in case.scans and asked.pairs(source, target):
            return source, case.scans[source]
    if case.scans:
        return f"there is no model from {' or '.join(case.scans)}"
    if case.unknown:
        return "the name of the file tells no modality; say it, e.g. --from t1"
    return "there is more than one file of each scan" if case.ambiguous else "there is no scan to make it from"


def _refuse_clashes(drafts: Iterable[_Draft]) -> None:
    """Take out jobs that would write one file, also where a file system does not tell letters by their case."""
    by_name: dict[str, list[tuple[_Draft, Job]]] = {}
    for draft in drafts:
        for job in draft.jobs.values():
            stem = job.output.with_name(strip_suffixes(job.output))
            by_name.setdefault(same_name(stem.as_posix()), []).append((draft, job))
    for group in by_name.values():
        for draft, job in group if len(group) > 1 else ():
            others = ", ".join(repr(other.case) for _, other in group if other is not job)
            _refuse(draft, job, f"its file would be that of {others} too")


def _refuse_inputs(drafts: Iterable[_Draft], cohort: Cohort) -> None:
    """Take out jobs that would write over a scan."""
    inputs = {path for case in cohort.cases for path in (*case.scans.values(), *case.unknown)}
    for draft in drafts:
        for job in list(draft.jobs.values()):
            if job.output in inputs:
                _refuse(draft, job, f"its file {job.output.name} is an input")


def _refuse(draft: _Draft, job: Job, why: str) -> None:
    del draft.jobs[job.target]
    draft.cannot[job.target] = why


def _problems(draft: _Draft) -> list[tuple[str, str]]:
    return [(draft.case.id, f"lacks {target}, which cannot be made: {why}.") for target, why in draft.cannot.items()]


def _frozen(draft: _Draft) -> Lack:
    return Lack(
        case=draft.case.id,
        has=tuple(draft.case.scans),
        missing=draft.missing,
        made=tuple((target, job.role) for target, job in draft.jobs.items()),
        cannot=tuple(draft.cannot.items()),
    )
