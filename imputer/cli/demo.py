"""``imputer demo``: the first minute, with nothing but the installed package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, output_folder, refuse_existing, reports_errors
from imputer.errors import UsageError
from imputer.modality import Modality

if TYPE_CHECKING:
    from imputer.volume import Volume

app = typer.Typer()

_FIELD_OF_VIEW = (160.0, 192.0, 144.0)  # mm along I, J, K: a whole head, whatever the number of voxels
_SIZE = "160x192x48"  # 1 x 1 x 3 mm, as in a clinical scan


@app.command()
@reports_errors
def demo(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for what the demo makes.")
    ] = Path("imputer-demo"),
    size: Annotated[
        str, typer.Option(metavar="IxJxK", help="Voxels of the head phantom, left to right, back to front, up.")
    ] = _SIZE,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Make a head phantom, impute its T2 from its T1 and draw both beside the phantom's own T2.

    Needs no data, no network and no GPU. Writes t1.nii.gz, t1_synth-t2.nii.gz with its .json, t2.nii.gz (the
    phantom's own) and demo.png.
    """
    shape = _shape(size)
    device = options.checked_device(device)
    volumes = {name: folder / name for name in ("t1.nii.gz", "t1_synth-t2.nii.gz", "t2.nii.gz")}
    picture = folder / "demo.png"
    refuse_existing([*volumes.values(), picture], overwrite=overwrite)
    report = Reporter(quiet=quiet, progress=not no_progress)
    with output_folder(folder):
        report.note("Making a head phantom ...")
        own = _phantom(shape, seed)
        for modality, name in ((Modality.T1, "t1.nii.gz"), (Modality.T2, "t2.nii.gz")):
            _save(own[modality], volumes[name], overwrite=overwrite)
        report.note("Imputing its T2 from its T1 ...")
        made = _impute(volumes["t1.nii.gz"], volumes["t1_synth-t2.nii.gz"], seed, device, overwrite, report)
        columns = [("T1", own[Modality.T1]), ("T2, synthetic", made), ("T2, phantom", own[Modality.T2])]
        _draw(columns, picture, overwrite=overwrite)
    for path in (*volumes.values(), picture):
        typer.echo(str(path))
    report.note(_what_next(picture))


def _shape(text: str) -> tuple[int, int, int]:
    """Voxels along I, J, K from ``160x192x48``; UsageError otherwise."""
    if not re.fullmatch(r"\d{1,4}x\d{1,4}x\d{1,4}", text):
        raise UsageError(f"The size {text!r} is not three whole numbers.", remedy=f"Example: --size {_SIZE}.")
    i, j, k = (int(number) for number in text.split("x"))
    if min(i, j) < 32 or k < 1 or max(i, j, k) > 1024:
        raise UsageError(f"A phantom of {text} voxels is not possible.", remedy="I and J: 32 to 1024; K: 1 to 1024.")
    return i, j, k


def _phantom(shape: tuple[int, int, int], seed: int) -> dict[Modality, Volume]:
    from imputer.phantom import make_head

    i, j, k = (extent / size for extent, size in zip(_FIELD_OF_VIEW, shape, strict=True))
    return make_head([Modality.T1, Modality.T2], shape=shape, spacing=(i, j, k), seed=seed)


def _save(volume: Volume, path: Path, *, overwrite: bool) -> None:
    from imputer.io.dispatch import save

    save(volume, path, like=volume, description="imputer head phantom, synthetic", overwrite=overwrite)


def _impute(source: Path, target: Path, seed: int, device: str, overwrite: bool, report: Reporter) -> Volume:
    from imputer.synth import synthesise

    with report.running():
        outcome = synthesise(
            source,
            to=Modality.T2,
            from_=Modality.T1,
            device=device,
            seed=seed,
            output=target,
            overwrite=overwrite,
            force=True,  # a phantom is outside the scope of models for patients
            progress=report.step,
        )
    return outcome.volume


def _draw(columns: list[tuple[str, Volume]], path: Path, *, overwrite: bool) -> None:
    from imputer.report.figures import mosaic

    mosaic(columns, path, overwrite=overwrite)


def _what_next(picture: Path) -> str:
    return "\n".join(
        [
            "",
            f"Look at {picture}: T1, synthetic T2, and the T2 that the phantom really has.",
            "The models were trained on patients, so a phantom is only a taste. Next:",
            "  imputer inspect YOUR_t1.nii.gz          what it is and what can be made of it",
            "  imputer synth YOUR_t1.nii.gz --to t2    the T2 beside it",
            "  imputer models list                     what else there is",
        ]
    )
