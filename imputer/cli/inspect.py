"""``imputer inspect``: what a file is and what could be made of it, without weights and without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imputer.cli import options
from imputer.cli.output import reports_errors, show_fields, show_json, show_table
from imputer.errors import UsageError
from imputer.files import synthetic_name
from imputer.modality import guess_modality, parse_modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imputer.io.dicom.series import SeriesSummary
    from imputer.io.dispatch import Header
    from imputer.modality import Modality

app = typer.Typer()


@app.command()
@reports_errors
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Volume (.nii, .nii.gz, .mha, .nrrd, .mgz), or a DICOM folder, zip or file.",
        ),
    ],
    from_: options.SourceModality = None,
    series: options.Series = None,
    scope: Annotated[
        bool,
        typer.Option(help="Also read the voxels, and say in what they are unlike those of a model's training."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say what a file is (modality, grid), which models fit and what they would write; by the header alone.

    Of DICOM it lists every series, which of them can be used, and why the others cannot.
    """
    from imputer.io.dispatch import is_dicom, peek

    said = parse_modality(from_) if from_ is not None else None
    path = path.resolve() if path.name in ("", "..") else path
    if is_dicom(path):
        record = _dicom_record(path, said, series)
    elif series is not None:
        raise UsageError(f"{path.name} is no DICOM input.", remedy="Leave --series out.")
    else:
        record = _file_record(path, peek(path), said or guess_modality(path))
    if scope:
        _add_risks(record, path, series)
    if as_json:
        show_json(record)
        return
    if len(record.get("series", ())) > 1:
        show_table(_table(record["series"]))
        typer.echo()
    show_fields(_readable(record))


def _file_record(path: Path, header: Header, modality: Modality | None) -> dict[str, Any]:
    return {
        "input": str(path),
        "format": header.format,
        "modality": modality.value if modality is not None else None,
        **_grid(header.shape, header.spacing, header.axis_codes, header.affine),
        "dtype": str(header.dtype),
        "models": _models(path, header.affine, modality, ".nii.gz") if modality is not None else [],
    }


def _dicom_record(path: Path, said: Modality | None, series: str | None) -> dict[str, Any]:
    """Every series; and of the one that is named, or the only one that can be used, what a file's record has."""
    from imputer.io.dicom.series import named, scan

    found = scan(path)
    chosen = [named(found, series)] if series is not None else [one for one in found if not one.problem]
    record: dict[str, Any] = {
        "input": str(path),
        "format": "dicom",
        "series": [_series_record(one) for one in found],
        "models": [],
    }
    one = chosen[0] if len(chosen) == 1 else None
    if one is not None and one.affine is not None and one.shape is not None and one.spacing is not None:
        modality = said or one.modality
        record["modality"] = modality.value if modality is not None else None
        record |= _grid(one.shape, one.spacing, one.axis_codes, one.affine)
        record["models"] = _models(path, one.affine, modality, "") if modality is not None and not one.problem else []
    return record


def _series_record(one: SeriesSummary) -> dict[str, Any]:
    return {
        "number": one.number,
        "series_instance_uid": one.uid,
        "description": one.description,
        "modality": one.modality.value if one.modality is not None else None,
        "sop_class": one.sop_class,
        "frames": one.frames,
        "shape": list(one.shape) if one.shape is not None else None,
        "spacing_mm": [round(float(size), 6) for size in one.spacing] if one.spacing is not None else None,
        "body_part": one.body_part,
        "synthetic": one.synthetic,
        "usable": not one.problem,
        "problem": one.problem,
        "select": list(one.groups),
    }


def _grid(
    shape: tuple[int, ...], spacing: tuple[float, ...], axis_codes: tuple[str, ...] | None, affine: NDArray[Any]
) -> dict[str, Any]:
    return {
        "shape": [int(size) for size in shape],
        "spacing_mm": [round(float(size), 6) for size in spacing],
        "axis_codes": "".join(axis_codes or ()),
        "affine": [[float(value) for value in row] for row in affine],
    }


def _models(path: Path, affine: NDArray[Any], source: Modality, ending: str) -> list[dict[str, Any]]:
    """The best model for each contrast that can be made, why it is the best, and what it would write."""
    from imputer.preprocess.orient import Orient
    from imputer.weights.choice import choose, lacking, makes
    from imputer.weights.store import all_entries

    runnable = [entry for entry in all_entries() if entry.is_runnable]
    entries = [entry for entry in runnable if makes(entry, source, None)]
    targets = dict.fromkeys(target for entry in entries for target in entry.targets if target != source)
    found = []
    for target in targets:
        choice = choose(entries, source, target, spacing_mm=Orient().spacing(affine))
        found.append(
            {
                "id": choice.entry.id,
                "to": target.value,
                "output": str(path.parent / (synthetic_name(path, target) + ending)),
                "reasons": list(choice.reasons),
                "cautions": list(choice.cautions),
                "together": [
                    {"id": entry.id, "with": list(map(str, lacking(entry, [source])))}
                    for entry in runnable
                    if lacking(entry, [source]) and source in entry.sources and target in entry.targets
                ],
            }
        )
    return found


def _add_risks(record: dict[str, Any], path: Path, series: str | None) -> None:
    """Add to each model what about the voxels is unlike its training volumes, with the score of that."""
    from dataclasses import asdict

    from imputer.io.dispatch import load
    from imputer.preprocess.likeness import risk, unlike
    from imputer.preprocess.survey import survey
    from imputer.weights.manifest import find
    from imputer.weights.store import all_entries

    if not record["models"]:
        return
    source = parse_modality(record["modality"])
    volume = load(path, series=series, fits=lambda modality: modality in (source, None))
    surveyed = survey(volume)
    for model in record["models"]:
        entry = find(model["id"], all_entries())
        measured = [asdict(each) for each in entry.measured]
        found = unlike(surveyed, source, measured, entry.scope.skull_stripped) if surveyed is not None else []
        model["risk"] = risk(found)


def _table(series: list[dict[str, Any]]) -> list[list[str]]:
    """One line a series; with its UID where its number does not name it."""
    numbers = [one["number"] for one in series]
    lines = [["series", "contrast", "size", "spacing", "description", "state"]]
    for one in series:
        size = " x ".join(map(str, one["shape"])) if one["shape"] else f"{one['frames']} images"
        spacing = " x ".join(f"{step:.3g}" for step in one["spacing_mm"]) + " mm" if one["spacing_mm"] else ""
        state = "synthetic" if one["synthetic"] else "usable" if one["usable"] else one["problem"]
        if numbers.count(one["number"]) > 1:
            state = f"{one['series_instance_uid']}: {state}"
        number = "-" if one["number"] is None else str(one["number"])
        lines.append([number, one["modality"] or "?", size, spacing, one["description"], state])
    return lines


def _readable(record: dict[str, Any]) -> dict[str, object]:
    series = record.get("series")
    fields: dict[str, object] = {"input": record["input"]}
    if series is None:
        fields["format"] = f"{record['format']}, {record['dtype']}"
        unknown = "unknown from the name; say it with --from"
    else:
        fields["format"] = f"DICOM, {len(series)} series" + (f": {series[0]['sop_class']}" if len(series) == 1 else "")
        unknown = "unknown from the sequence parameters; say it with --from"
        if len(series) == 1 and series[0]["problem"]:
            fields["problem"] = series[0]["problem"]
    if "shape" not in record:
        if series is not None and len(series) > 1:
            by = "NUMBER, or UID where a number is there twice"
            fields["choose"] = f"the series with --series {by}"
        return fields
    fields["modality"] = record["modality"] or unknown
    fields["grid"] = " x ".join(map(str, record["shape"])) + f" voxels, axes {record['axis_codes']}"
    fields["spacing"] = " x ".join(f"{size:g}" for size in record["spacing_mm"]) + " mm"
    return fields | {f"to {model['to']}": _line(model) for model in record["models"]}


def _line(model: dict[str, Any]) -> str:
    cautions = "".join(f"; caution: {caution}" for caution in model["cautions"])
    more = "".join(f"; together with {' and '.join(each['with'])}: {each['id']}" for each in model["together"])
    reasons = "".join(f"; caution: {reason}" for reason in model.get("risk", {}).get("reasons", ()))
    score = f"; risk {model['risk']['score']:g}" if "risk" in model else ""
    return f"{model['id']} -> {model['output']}{more}{cautions}{score}{reasons}"
