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
    return {
        "input": str(path),
        "format": header.format,
        "modality": modality.value if modality is not None else None,
        "shape": [int(size) for size in header.shape],
        "spacing_mm": [round(float(size), 6) for size in header.spacing],
        "axis_codes": "".join(header.axis_codes),
        "dtype": str(header.dtype),
        "affine": [[float(value) for value in row] for row in header.affine],
        "models": _models(path, header, modality) if modality is not None else [],
    }


def _models(path: Path, header: Header, source: Modality) -> list[dict[str, Any]]:
    """The best model for each contrast that can be made, why it is the best, and what it would write."""
    from imputer.preprocess.orient import Orient
    from imputer.weights.choice import choose, makes
    from imputer.weights.store import all_entries

    entries = [entry for entry in all_entries() if entry.is_runnable and makes(entry, source, None)]
    targets = dict.fromkeys(target for entry in entries for target in entry.targets if target != source)
    stem, found = strip_suffixes(path), []
    for target in targets:
        choice = choose(entries, source, target, spacing_mm=Orient().spacing(header.affine))
        found.append(
            {
                "id": choice.entry.id,
                "to": target.value,
                "output": str(path.parent / f"{stem}_synth-{target}.nii.gz"),
                "reasons": list(choice.reasons),
                "cautions": list(choice.cautions),
            }
        )
    return found


def _readable(record: dict[str, Any]) -> dict[str, object]:
    unknown = "unknown from the name; say it with --from"
    return {
        "input": record["input"],
        "format": f"{record['format']}, {record['dtype']}",
        "modality": record["modality"] or unknown,
        "grid": " x ".join(map(str, record["shape"])) + f" voxels, axes {record['axis_codes']}",
        "spacing": " x ".join(f"{size:g}" for size in record["spacing_mm"]) + " mm",
        **{f"to {model['to']}": _line(model) for model in record["models"]},
    }


def _line(model: dict[str, Any]) -> str:
    cautions = "".join(f"; caution: {caution}" for caution in model["cautions"])
    return f"{model['id']} -> {model['output']}{cautions}"
