"""The spine: one case from its file to the synthetic volume's file, by the stages of `imputer.case`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imputer.case import Outcome, Settings, draw_case, finish_case, model_for, prepare_case, read_case
from imputer.methods.base import Method, choose_device
from imputer.modality import Modality, parse_modality
from imputer.pretrained.load import build_model
from imputer.volume import Volume
from imputer.weights.find import Found
from imputer.weights.hub import Progress

__all__ = ["Outcome", "synthesise"]


def synthesise(
    source: Path | str | Volume,
    *,
    to: Modality | str,
    from_: Modality | str | None = None,
    model: str | Path | Method | None = None,
    device: str = "auto",
    steps: int | None = None,
    batch_size: int | str = "auto",
    precision: str = "auto",
    seed: int = 0,
    samples: int = 1,
    output: Path | str | None = None,
    output_types: Sequence[str] = (),
    series: str | None = None,
    select: Sequence[str] = (),
    reference_dicom: Path | str | None = None,
    series_number: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    preview: bool = False,
    force: bool = False,
    anatomy: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Make the contrast `to` of one case.

    Parameters
    ----------
    source : file, DICOM folder or zip, or volume of the contrast that is there.
    to, from_ : modalities; `from_` None: told by the file's name or the sequence parameters of a DICOM series.
    model : id, `hf://owner/repo[@revision]`, model package or loaded method; None: the best fitting one.
    device : auto, cpu, cuda, cuda:N or mps.
    steps : reverse steps, at most the model's own number; fewer end at an earlier estimate.
    batch_size : slices at once on an accelerator, or "auto"; a CPU takes one at a time.
    precision : auto, fp32, bf16 or fp16.
    seed : same seed, same volume, whatever the batch size.
    samples : draw several; the result is their mean, and the standard deviation is written beside it.
    output : NIfTI file or DICOM folder to write, with its sidecar; None: only return the volume.
    output_types : of "nifti" and "dicom"; empty: NIfTI where `output` is named so, else as the input is.
    series, select : which DICOM series (UID, number or description), and which of several volumes in it.
    reference_dicom : DICOM series that a source of another kind was converted from, for DICOM output.
    series_number : of the new DICOM series; None: told by that of the source.
    overwrite : replace existing files.
    dry_run : do all but the synthesis and the writing.
    preview : also write a picture.
    force : run although the input is outside the model's scope.
    anatomy : what the volume shows, e.g. "brain"; where models differ in it, the fitting one is taken.
    offline : never use the network, not even for a model that is not here yet.
    progress : called with (stage, done, total).

    Raises
    ------
    ImputerError
        UsageError, InputError, ModelError, DeviceError or OutputError; nothing half-written remains.
    """
    settings = Settings(
        to=parse_modality(str(to)),
        from_=parse_modality(str(from_)) if from_ is not None else None,
        steps=steps,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        samples=samples,
        output_types=tuple(output_types),
        series=series,
        select=tuple(select),
        reference_dicom=Path(reference_dicom) if reference_dicom is not None else None,
        series_number=series_number,
        overwrite=overwrite,
        preview=preview,
        force=force,
    )
    place = Path(output) if output is not None else None
    case = read_case(source if isinstance(source, Volume) else Path(source), place, settings)
    method, found = _method(model, case.volume, settings.to, device, anatomy, offline=offline, progress=progress)
    prepared = prepare_case(case, method, found, settings)
    if dry_run:
        return prepared.outcome
    return finish_case(prepared, draw_case(prepared, progress), settings)


def _method(
    model: str | Path | Method | None,
    volume: Volume,
    target: Modality,
    device: str,
    anatomy: str | None,
    *,
    offline: bool,
    progress: Progress | None,
) -> tuple[Method, Found | None]:
    """Load the model, the best fitting one where none is named."""
    if model is not None and not isinstance(model, str | Path):
        return model, None
    place = choose_device(device)
    found = model_for(volume, target, model, anatomy, offline=offline, progress=progress)
    return build_model(found, place), found
