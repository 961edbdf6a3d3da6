"""``imputer models``: which trained models there are, whether their files are sound, and bringing in others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imputer.cli import options
from imputer.cli.output import reports_errors, show_fields, show_json, show_table
from imputer.errors import ModelError
from imputer.modality import parse_modality

if TYPE_CHECKING:
    from imputer.weights.manifest import Entry

app = typer.Typer(no_args_is_help=True)


@app.callback()
def models() -> None:
    """Models that are at hand: what they make, where their files lie, whether these are sound."""


@app.command("list")
@reports_errors
def list_models(as_json: options.AsJson = False) -> None:
    """List the models; of two for the same pair, the upper one is the default."""
    from imputer.weights.manifest import entries

    if as_json:
        show_json([_record(entry) for entry in entries()])
        return
    heading = ["ID", "FROM", "TO", "METHOD", "SIZE", "LICENCE"]
    rows = [
        [entry.id, entry.source.value, entry.target.value, entry.method, _megabytes(entry.bytes), entry.licence]
        for entry in entries()
    ]
    show_table([heading, *rows])


@app.command()
@reports_errors
def info(model: options.ModelId, as_json: options.AsJson = False) -> None:
    """Say all that is known of one model: pair, training data, licence, citation, file."""
    from imputer.weights.manifest import find

    record = _record(find(model))
    if as_json:
        show_json(record)
    else:
        show_fields(record)


@app.command()
@reports_errors
def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", autocompletion=options.complete_model, help="Ids of models; all without."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the files of models against the size and SHA-256 in the manifest; exit code 4 where one differs."""
    from imputer.weights.manifest import entries, fault, find

    chosen = [find(model) for model in models] if models else list(entries())
    faults = {entry.id: fault(entry) for entry in chosen}
    if as_json:
        show_json([{"id": name, "sound": problem is None, "problem": problem} for name, problem in faults.items()])
    else:
        show_table([[name, problem or "sound"] for name, problem in faults.items()])
    damaged = [name for name, problem in faults.items() if problem is not None]
    if damaged:
        raise ModelError(f"Not usable: {', '.join(damaged)}.", remedy="Install imputer again.")


@app.command()
@reports_errors
def path(model: options.ModelId, as_json: options.AsJson = False) -> None:
    """Print where the file of a model lies."""
    from imputer.weights.manifest import find

    entry = find(model)
    if not entry.path.is_file():
        raise ModelError(f"The file of {entry.id} is missing.", remedy="Install imputer again.")
    if as_json:
        show_json({"id": entry.id, "path": str(entry.path)})
    else:
        typer.echo(str(entry.path))


@app.command("import")
@reports_errors
def import_model(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="Generator checkpoint of the SynDiff authors, gen_diffusive_*.pth.")
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="MOD", autocompletion=options.complete_modality, help="Modality it starts from."
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="MOD", autocompletion=options.complete_modality, help="Modality it makes.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write; CKPT with .safetensors without."),
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side that it was trained with.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps that it was trained with.")] = 4,
    overwrite: options.Overwrite = False,
) -> None:
    """Turn a checkpoint of the SynDiff authors into a model file, for `imputer synth -m FILE`.

    Only tensors are read from the checkpoint; one that holds anything else is refused: reading it could run code.
    """
    pair = parse_modality(source), parse_modality(target)
    from imputer.pretrained.official_syndiff import import_checkpoint

    written = import_checkpoint(
        checkpoint,
        *pair,
        output or checkpoint.with_suffix(".safetensors"),
        image_size=image_size,
        steps=steps,
        overwrite=overwrite,
    )
    typer.echo(str(written))


def _record(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "title": entry.title,
        "method": entry.method,
        "from": entry.source.value,
        "to": entry.target.value,
        "version": entry.version,
        "trained_on": entry.trained_on,
        "licence": entry.licence,
        "citation": entry.citation,
        "embedded": entry.embedded,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "path": str(entry.path),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
