"""The spine: one case from its file to the synthetic volume's file, in nine calls, without any maths of its own."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError, OutputError, UsageError
from imputer.files import strip_suffixes
from imputer.io.dispatch import load, save
from imputer.methods.base import Method, RunOptions, choose_device, choose_precision
from imputer.modality import Modality, parse_modality
from imputer.preprocess.orient import Orient
from imputer.pretrained.load import build_model
from imputer.report.figures import mosaic
from imputer.report.provenance import ModelRecord, RunRecord, sidecar, software_versions, write_json
from imputer.volume import Volume
from imputer.weights.find import Found, find_model
from imputer.weights.hub import Progress
from imputer.weights.package import non_commercial_notice

HEAD_MM = (100.0, 500.0)  # in-plane extent that can be a head; beyond it the affine or the body part is another


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Parameters
    ----------
    volume : the synthetic volume on the source's grid; of a dry run the source itself.
    path, sidecar, preview, std : the files written; None where none was.
    record : the sidecar's content.
    warnings : what the user should know.
    reasons : why the model was chosen; empty where it was named.
    planned : the files that were, or would be, written.
    """

    volume: Volume
    path: Path | None = None
    sidecar: Path | None = None
    preview: Path | None = None
    std: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    planned: list[Path] = field(default_factory=list)


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
    source : file or volume of the contrast that is there.
    to, from_ : modalities; `from_` None: told by the file's name.
    model : id, `hf://owner/repo[@revision]`, model package or loaded method; None: the best fitting one.
    device : auto, cpu, cuda, cuda:N or mps.
    steps : reverse steps, at most the model's own number; fewer end at an earlier estimate.
    batch_size : slices at once on an accelerator, or "auto"; a CPU takes one at a time.
    precision : auto, fp32, bf16 or fp16.
    seed : same seed, same volume, whatever the batch size.
    samples : draw several; the result is their mean, and the standard deviation is written beside it.
    output : file to write, with its sidecar; None: only return the volume.
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
    started = time.monotonic()
    target = parse_modality(str(to))
    plan = _planned(Path(output) if output is not None else None, samples, preview)
    _check_outputs(plan, source, overwrite=overwrite)
    volume = source if isinstance(source, Volume) else load(Path(source))
    volume = replace(volume, modality=_source_modality(volume, from_, target))
    method, found = _method(model, volume, target, device, anatomy=anatomy, offline=offline, progress=progress)
    scope = [*_scope_warnings(volume, method, force=force), *(found.cautions if found else ())]
    options = RunOptions(
        _case(volume), seed, steps, _batch_size(batch_size), choose_precision(precision, method.device)
    )
    stack, undo = method.recipe.forward(volume)
    run = RunRecord(steps or method.steps, samples, seed, options.precision, str(method.device), 0.0)
    notes = volume.origin.notes if volume.origin else ()
    outcome = Outcome(
        volume,
        record=_record(volume, target, method, run, scope, undo),
        warnings=[*_licence_warnings(method), *scope, *notes],
        reasons=found.reasons if found else (),
        planned=list(plan.values()),
    )
    if dry_run:
        return outcome
    drawn = _draws(method, stack, options, samples, progress)
    results = [method.recipe.inverse(each, undo, volume, scale=method.output_scale) for each in drawn]
    result, std = _combine(volume, target, results)
    outcome.record["seconds"] = round(time.monotonic() - started, 3)
    _write(result, std, volume, plan, outcome.record, overwrite=overwrite)
    files: dict[str, Any] = {name: plan.get(name) for name in ("sidecar", "preview", "std")}
    return replace(outcome, volume=result, path=plan.get("volume"), **files)


def _planned(output: Path | None, samples: int, preview: bool) -> dict[str, Path]:
    """Name the files of a case after the volume's."""
    if samples < 1:
        raise UsageError(f"The number of samples is {samples}.", remedy="Draw at least one.")
    if output is None:
        return {}
    stem = strip_suffixes(output)
    plan = {"volume": output, "sidecar": output.with_name(stem + ".json")}
    if samples > 1:
        plan["std"] = output.with_name(stem + "_std.nii.gz")
    if preview:
        plan["preview"] = output.with_name(stem + ".png")
    return plan


def _check_outputs(plan: dict[str, Path], source: Path | str | Volume, *, overwrite: bool) -> None:
    """Refuse before any work what could not be written after it."""
    volume_path = plan.get("volume")
    if volume_path is None:
        return
    if not volume_path.name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{volume_path.name} does not end in .nii or .nii.gz.", remedy="NIfTI is what is written.")
    if not isinstance(source, Volume) and volume_path.resolve() == Path(source).resolve():
        raise UsageError("The output is the input itself.", remedy="Choose another --output.")
    if not volume_path.parent.is_dir():
        raise OutputError(f"Folder {volume_path.parent.name!r} does not exist.", remedy="Make it first.")
    for path in plan.values():
        if path.exists() and not overwrite:
            raise OutputError(f"{path.name} exists already.", remedy="Add --overwrite or choose another --output.")


def _source_modality(volume: Volume, from_: Modality | str | None, target: Modality) -> Modality:
    source = parse_modality(str(from_)) if from_ is not None else volume.modality
    if source is None:
        name = volume.origin.path.name if volume.origin else "the volume"
        raise InputError(f"The modality of {name} cannot be told from its name.", remedy="Say it, e.g. --from t1.")
    if source == target:
        raise UsageError(f"Source and target are both {target}.", remedy="Ask for another modality with --to.")
    return source


def _batch_size(batch_size: int | str) -> int | None:
    """Return the number of slices at once, None for "auto"."""
    if batch_size == "auto":
        return None
    try:
        number = int(batch_size)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"The batch size is {batch_size}.", remedy="Give a number above 0, or auto.")
    return number


def _method(
    model: str | Path | Method | None,
    volume: Volume,
    target: Modality,
    device: str,
    *,
    anatomy: str | None,
    offline: bool,
    progress: Progress | None,
) -> tuple[Method, Found | None]:
    """Load the model, the best fitting one where none is named, and check that it makes the pair."""
    source, found = volume.modality, None
    if model is None or isinstance(model, str | Path):
        place = choose_device(device)
        case: dict[str, Any] = {"spacing_mm": Orient().spacing(volume.affine), "anatomy": anatomy}
        found = find_model(model, source, target, **case, offline=offline, progress=progress)
        method = build_model(found, place)
    else:
        method = model
    if method.sources != (source,) or method.target != target:
        made = f"{', '.join(method.sources)} to {method.target}"
        raise ModelError(f"Model {method.identity.id} goes from {made}, not from {source} to {target}.")
    return method, found


def _scope_warnings(volume: Volume, method: Method, *, force: bool) -> list[str]:
    """Tell what about the input is outside the model's scope; InputError where that is hopeless and not forced."""
    if method.identity.scope.get("body_part") != "head":
        return []
    extents = sorted(size * step for size, step in zip(volume.shape, volume.spacing, strict=True))
    low, high = HEAD_MM
    if low <= extents[1] and extents[2] <= high:
        return []
    said = " x ".join(f"{extent:.0f}" for extent in extents)
    warning = f"The volume measures {said} mm, which no head does; the model was trained on heads."
    if not force:
        raise InputError(warning, remedy="Check the file's voxel sizes, or add --force.")
    return [warning]


def _licence_warnings(method: Method) -> list[str]:
    identity = method.identity
    return [non_commercial_notice(identity.id, identity.licence)] if identity.non_commercial else []


def _case(volume: Volume) -> str:
    """Identify a case by its voxels in a common order, so that a renamed or converted file gives the same result."""
    array = Orient().forward(volume)[0].array
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.asfortranarray(array).T.data)
    return digest.hexdigest()


def _draws(
    method: Method, stack: NDArray[np.float32], options: RunOptions, samples: int, progress: Progress | None
) -> list[NDArray[np.float32]]:
    """Run the method once for each sample; the first sample of several is the single one of the same seed."""
    done, total = 0, samples * len(stack)

    def count(slices: int) -> None:
        nonlocal done
        done += slices
        if progress is not None:
            progress("synthesis", done, total)

    cases = [options.case, *(f"{options.case}/{number}" for number in range(1, samples))]
    return [method.run(stack, replace(options, case=case), count) for case in cases]


def _combine(source: Volume, target: Modality, drawn: list[Volume]) -> tuple[Volume, Volume | None]:
    """Return the mean of the samples, in whole numbers as scanners write them, and their standard deviation."""
    if len(drawn) == 1:
        mean, std = drawn[0].array, None
    else:
        arrays = np.stack([each.array for each in drawn])
        mean = arrays.mean(axis=0)
        std = source.with_array(arrays.std(axis=0, ddof=1), modality=target)
    return source.with_array(np.rint(mean), modality=target), std


def _record(
    volume: Volume,
    target: Modality,
    method: Method,
    run: RunRecord,
    scope: list[str],
    undo: list[dict[str, Any]],
) -> dict[str, Any]:
    assert volume.modality is not None
    identity = method.identity
    return sidecar(
        source=volume.origin.path if volume.origin else None,
        from_=volume.modality,
        to=target,
        model=ModelRecord(
            identity.id,
            identity.version,
            identity.sha256,
            identity.licence,
            identity.citation,
            identity.origin,
            identity.non_commercial,
        ),
        run=run,
        intensity_scale={
            "unit": "arbitrary; 0 is background, a tissue has about the same value in every volume of this model",
            "white": method.output_scale,
        },
        scope_warnings=scope,
        recipe=method.recipe.to_json(),
        undo=undo,
        versions=software_versions(),
        notes=volume.origin.notes if volume.origin else (),
    )


def _write(
    result: Volume,
    std: Volume | None,
    source: Volume,
    plan: dict[str, Path],
    record: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write the files of a case; where one fails, those that are new go again."""
    fresh = [path for path in plan.values() if not path.exists()]
    assert source.modality is not None and result.modality is not None
    description = f"synthetic {result.modality} from {source.modality}, imputer, not for diagnosis"
    try:
        if "sidecar" in plan:
            write_json(plan["sidecar"], record, overwrite)
        if "std" in plan and std is not None:
            save(std, plan["std"], like=source, description="std of " + description, overwrite=overwrite)
        if "preview" in plan:
            columns = [(str(source.modality), source), (f"{result.modality}, synthetic", result)]
            mosaic(columns, plan["preview"], overwrite=overwrite)
        if "volume" in plan:
            save(result, plan["volume"], like=source, description=description, overwrite=overwrite)
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise
