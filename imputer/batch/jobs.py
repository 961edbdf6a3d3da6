"""One job of a batch and what came of it: plain data that travels between processes and into the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imputer.modality import Modality

DONE, FAILED, OPEN = "done", "failed", "open"


@dataclass(frozen=True)
class Job:
    """One synthetic volume to make.

    Parameters
    ----------
    id : names the job within the batch: the case, a colon, and the target; unique and stable.
    case : the case's id: its path below the input folder, with forward slashes.
    source : file or DICOM folder to start from.
    role : modality of the source; None: told when it is read.
    target : modality to make.
    output : NIfTI file, or folder of the DICOM series, as `imputer.case.read_case` takes it.
    series : DICOM series to take; None: the one that fits.
    beside : more sources that enter together with the first one, and where they are.
    may_replace : whether what lies at the outputs, if anything, was made by this very run and may be replaced.
    """

    id: str
    case: str
    source: Path
    role: Modality | None
    target: Modality
    output: Path
    series: str | None = None
    may_replace: bool = False
    beside: tuple[tuple[Modality, Path], ...] = ()


@dataclass(frozen=True)
class Record:
    """What came of a job.

    Parameters
    ----------
    id, case : of the job.
    status : "done" or "failed".
    message : why it failed, one sentence; "" of one that was done.
    exit_code : that `imputer synth` would have ended with.
    seconds : from reading to writing.
    slices : that were synthesised.
    waited : seconds that the device stood idle before the case, because nothing was ready for it.
    outputs : SHA-256 by path relative to the output folder; of a DICOM folder, every file.
    warnings : what the user should know of the result.
    fatal : no other job can succeed either (the disk is full); not kept in the ledger.
    """

    id: str
    case: str
    status: str
    message: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    slices: int = 0
    waited: float = 0.0
    outputs: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    fatal: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "id": self.id,
            "case": self.case,
            "status": self.status,
            "message": self.message,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "slices": self.slices,
            "waited": round(self.waited, 3),
            "outputs": dict(self.outputs),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """The inverse of `to_json`; KeyError, TypeError or ValueError where the data are of another kind."""
        outputs = tuple((str(path), str(sha256)) for path, sha256 in data["outputs"].items())
        return cls(
            id=str(data["id"]),
            case=str(data["case"]),
            status=str(data["status"]),
            message=str(data["message"]),
            exit_code=int(data["exit_code"]),
            seconds=float(data["seconds"]),
            slices=int(data["slices"]),
            waited=float(data["waited"]),
            outputs=outputs,
            warnings=tuple(str(warning) for warning in data["warnings"]),
        )
