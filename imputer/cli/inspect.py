"""``imputer inspect``: what a file is and what could be made of it, without weights and without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imputer.cli import options
from imputer.cli.output import reports_errors, show_fields, show_json
from imputer.files import strip_suffixes
from imputer.modality import guess_modality, parse_modality

if TYPE_CHECKING:
    from imputer.io.dispatch import Header
    from imputer.modality import Modality

app = typer.Typer()


@app.command()
@reports_errors
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Volume to look at (.nii, .nii.gz, .mha, .nrrd, .mgz).")
    ],
    from_: options.SourceModality = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what a file is (modality, grid), which models fit and what they would write; reads the header only."""
    from imputer.io.dispatch import peek

    modality = parse_modality(from_) if from_ is not None else guess_modality(path)
    record = _record(path, peek(path), modality)
    if as_json:
        show_json(record)
    else:
        show_fields(_readable(record))


def _record(path: Path, header: Header, modality: Modality | None) -> dict[str, Any]:
    from imputer.weights.manifest import candidates

    fitting = candidates(modality) if modality is not None else ()
    stem = strip_suffixes(path)
    return {
        "input": str(path),
        "format": header.format,
        "modality": modality.value if modality is not None else None,
        "shape": [int(size) for size in header.shape],
        "spacing_mm": [round(float(size), 6) for size in header.spacing],
        "axis_codes": "".join(header.axis_codes),
        "dtype": str(header.dtype),
        "affine": [[float(value) for value in row] for row in header.affine],
        "models": [
            {
                "id": entry.id,
                "to": entry.target.value,
                "output": str(path.parent / f"{stem}_synth-{entry.target}.nii.gz"),
            }
            for entry in fitting
        ],
    }


def _readable(record: dict[str, Any]) -> dict[str, object]:
    unknown = "unknown from the name; say it with --from"
    return {
        "input": record["input"],
        "format": f"{record['format']}, {record['dtype']}",
        "modality": record["modality"] or unknown,
        "grid": " x ".join(map(str, record["shape"])) + f" voxels, axes {record['axis_codes']}",
        "spacing": " x ".join(f"{size:g}" for size in record["spacing_mm"]) + " mm",
        **{f"to {model['to']}": f"{model['id']} -> {model['output']}" for model in record["models"]},
    }
