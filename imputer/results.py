"""What a case is written to: names of the files, the checks before any work, and the writing after it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imputer.errors import OutputError, UsageError
from imputer.files import is_nifti_name, std_beside, strip_suffixes
from imputer.io.dispatch import save
from imputer.report.figures import mosaic
from imputer.report.provenance import write_json
from imputer.volume import Volume

if TYPE_CHECKING:
    from imputer.io.dicom.write import Synthesis

KINDS = ("nifti", "dicom")


@dataclass(frozen=True)
class Plan:
    """The files of a case; None where there is none.

    Parameters
    ----------
    volume : NIfTI file.
    series : folder of a DICOM series.
    sidecar : JSON of how it was made.
    std : NIfTI file of the standard deviation of several samples.
    preview : picture.
    """

    volume: Path | None = None
    series: Path | None = None
    sidecar: Path | None = None
    std: Path | None = None
    preview: Path | None = None

    def images(self) -> list[Path]:
        """What holds the synthetic volume: NIfTI file, folder of a DICOM series."""
        return [path for path in (self.volume, self.series) if path is not None]

    def paths(self) -> list[Path]:
        """All that is written, the images first."""
        return self.images() + [path for path in (self.sidecar, self.std, self.preview) if path is not None]


@dataclass(frozen=True)
class Images:
    """What came of a case, on the grid of the source.

    Parameters
    ----------
    source, result, std : volumes of one grid, the source's; `std` None for one sample.
    beside : more sources, on the grid of the first one.
    series : of DICOM output, the result in the order of the DICOM series that it shall be like; else None.
    """

    source: Volume
    result: Volume
    std: Volume | None = None
    series: Volume | None = None
    beside: tuple[Volume, ...] = ()


def kinds_of(
    asked: Sequence[str], output: Path | None, *, is_dicom: bool, has_reference: bool = False
) -> tuple[str, ...]:
    """The kinds of file to write: those asked for, else told by the name of the output, else as the input is.

    Raises
    ------
    UsageError
        For another kind than those of `KINDS`, or DICOM without a DICOM series to be like.
    """
    for kind in asked:
        if kind not in KINDS:
            raise UsageError(f"There is no output type {kind!r}.", remedy="There are nifti and dicom.")
    if "dicom" in asked and not (is_dicom or has_reference):
        raise UsageError(
            "DICOM output needs a DICOM series to take patient, study and geometry from.",
            remedy="Add --reference-dicom with the series that the input was converted from.",
        )
    if asked:
        return tuple(dict.fromkeys(asked))
    is_nifti = output is not None and is_nifti_name(output)
    return ("dicom",) if (is_dicom or has_reference) and not is_nifti else ("nifti",)


def plan_of(output: Path | None, kinds: Collection[str], *, samples: int, preview: bool) -> Plan:
    """Name the files of a case after `output`: a NIfTI file, or the folder of a DICOM series.

    Raises
    ------
    UsageError
        For less than one sample, or a name that is no NIfTI file's where only NIfTI is written.
    """
    if samples < 1:
        raise UsageError(f"The number of samples is {samples}.", remedy="Draw at least one.")
    if output is None:
        return Plan()
    is_nifti = is_nifti_name(output)
    if not is_nifti and "dicom" not in kinds:
        raise UsageError(f"{output.name} does not end in .nii or .nii.gz.", remedy="NIfTI is what is written.")
    stem = strip_suffixes(output) if is_nifti else output.name
    nifti = output if is_nifti else output.with_name(stem + ".nii.gz")
    sidecar = output.with_name(stem + ".json")
    return Plan(
        volume=nifti if "nifti" in kinds else None,
        series=output.with_name(stem) if "dicom" in kinds else None,
        sidecar=sidecar,
        std=std_beside(sidecar) if samples > 1 else None,
        preview=output.with_name(stem + ".png") if preview else None,
    )


def check_outputs(plan: Plan, source: Path | None, *, overwrite: bool) -> None:
    """Refuse before any work what could not be written after it.

    Raises
    ------
    UsageError
        Where an output is the input, or would lie among the files of a DICOM folder.
    OutputError
        Where a file exists (without `overwrite`) or its folder does not.
    """
    if plan.sidecar is None:
        return
    folder = plan.sidecar.parent
    if source is not None and source.resolve() in {path.resolve() for path in plan.paths()}:
        raise UsageError("The output is the input itself.", remedy="Choose another --output.")
    if source is not None and source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise UsageError("The output would lie inside the input folder.", remedy="Choose another --output.")
    if not folder.is_dir():
        raise OutputError(f"Folder {folder.name!r} does not exist.", remedy="Make it first.")
    for path in plan.paths():
        if not overwrite and path.exists() and not (path == plan.series and _is_empty_folder(path)):
            raise OutputError(f"{path.name} exists already.", remedy="Add --overwrite or choose another --output.")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write_results(
    images: Images,
    plan: Plan,
    record: dict[str, Any],
    synthesis: Synthesis | None,
    *,
    series_number: int | None = None,
    overwrite: bool,
) -> tuple[str, ...]:
    """Write the files of a case; where one fails, those that are new go again. Returns warnings of the DICOM writer.

    `record` is the sidecar; what only the writing decides (the new series' UID) is added to it here.
    """
    source, result = images.source, images.result
    fresh = [path for path in plan.paths() if not path.exists()]
    sources = (source, *images.beside)
    given = "+".join(str(each.modality) for each in sources)
    description = f"synthetic {result.modality} from {given}, imputer, not for diagnosis"
    warnings: tuple[str, ...] = ()
    try:
        if plan.series is not None:
            warnings = _write_series(images, plan.series, record, synthesis, series_number, overwrite=overwrite)
        if plan.sidecar is not None:
            write_json(plan.sidecar, record, overwrite)
        if plan.std is not None and images.std is not None:
            save(images.std, plan.std, like=source, description="std of " + description, overwrite=overwrite)
        if plan.preview is not None:
            columns = [*((str(each.modality), each) for each in sources), (f"{result.modality}, synthetic", result)]
            mosaic(columns, plan.preview, overwrite=overwrite, deviation=images.std)
        if plan.volume is not None:
            save(result, plan.volume, like=source, description=description, overwrite=overwrite)
    except BaseException:
        for path in fresh:
            _remove(path)
        raise
    return warnings


def _write_series(
    images: Images,
    folder: Path,
    record: dict[str, Any],
    synthesis: Synthesis | None,
    series_number: int | None,
    *,
    overwrite: bool,
) -> tuple[str, ...]:
    from imputer.io.dicom.write import write_dicom  # here: who writes NIfTI needs no DICOM library

    assert images.series is not None and images.series.origin is not None and synthesis is not None
    written = write_dicom(
        images.series,
        folder,
        like=images.series.origin.header,
        synthesis=synthesis,
        series_number=series_number,
        overwrite=overwrite,
    )
    record["dicom"] = {
        "folder": folder.name,
        "series_instance_uid": written.series_uid,
        "files": written.files,
        "stored_value_per_unit": written.scale,
    }
    return written.warnings


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
