"""``imputer models``: which trained models there are, and bringing them here, elsewhere, in and out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imputer.cli import options
from imputer.cli.model_checkpoints import import_checkpoint
from imputer.cli.model_records import HEADING, readable, record_of, row_of
from imputer.cli.output import Reporter, refuse_damaged, reports_errors, show_fields, show_json, show_table
from imputer.errors import ModelError, UsageError
from imputer.modality import Modality, parse_modality

if TYPE_CHECKING:
    from imputer.weights.manifest import Entry

app = typer.Typer(no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", autocompletion=options.complete_model, help="Ids of models; all without."),
]
Pull = Annotated[
    list[str], typer.Argument(metavar="ID", autocompletion=options.complete_model, help="Id, or hf://owner/repo.")
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="MOD", autocompletion=options.complete_modality, help="Modality it starts from."),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="MOD", autocompletion=options.complete_modality, help="Modality it makes."),
]


@app.callback()
def models() -> None:
    """Models: what they make, where their files lie, whether these are sound; to fetch, hand on and share."""


@app.command("list")
@reports_errors
def list_models(as_json: options.AsJson = False) -> None:
    """List the models, those from the Hub that are here last; of two that fit alike, the upper one is the default."""
    from imputer.weights.hub import kept
    from imputer.weights.store import all_entries

    entries = (*all_entries(), *kept())
    if as_json:
        show_json([record_of(entry) for entry in entries])
        return
    show_table([HEADING, *(row_of(entry) for entry in entries)])


@app.command()
@reports_errors
def info(model: options.ModelId, offline: options.Offline = False, as_json: options.AsJson = False) -> None:
    """Say all that is known of one model: pair, scope, scores, licences, citation, file."""
    from imputer.weights.find import matching

    records = [record_of(entry) for entry in matching(model, offline=offline)]
    if as_json:
        show_json(records if len(records) > 1 else records[0])
        return
    for number, record in enumerate(records):
        if number:
            typer.echo("")
        show_fields(readable(record))


@app.command()
@reports_errors
def pull(
    models: Pull,
    source: From = None,
    target: To = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
    as_json: options.AsJson = False,
) -> None:
    """Fetch models from the Hub, so that later runs need no network; a broken-off download goes on where it was.

    Of a repository with several models all are fetched, or those of the pair that --from and --to name.
    """
    from imputer.weights.find import matching
    from imputer.weights.hub import name_of, obtain

    asked = _pair(source, target)
    report = Reporter(quiet=quiet, progress=not no_progress)
    with report.running():  # a repository without an index is fetched to see what it holds
        found = [matching(model, *asked, offline=offline, progress=report.step) for model in models]
    entries = [entry for each in found for entry in each]
    paths = []
    for entry in entries:
        with report.running():
            paths.append(str(obtain(entry, offline=offline, progress=report.step)))
        _say_licence(entry, report)
    if as_json:
        names = map(name_of, entries)
        show_json([{"id": name, "path": path} for name, path in zip(names, paths, strict=True)])
    else:
        typer.echo("\n".join(paths))


@app.command()
@reports_errors
def verify(models: Ids = None, as_json: options.AsJson = False) -> None:
    """Check the files that are here against size and SHA-256; exit code 4 where one differs. Changes nothing."""
    from imputer.weights import hub, store
    from imputer.weights.find import matching

    chosen = (entry for model in models for entry in matching(model, offline=True)) if models else hub.here()
    faults = [(hub.name_of(entry), store.problem(entry)) for entry in chosen]
    if as_json:
        show_json([{"id": name, "sound": problem is None, "problem": problem} for name, problem in faults])
    else:
        show_table([[name, problem or "sound"] for name, problem in faults])
    refuse_damaged(faults)


@app.command()
@reports_errors
def path(model: options.ModelId, as_json: options.AsJson = False) -> None:
    """Print where the file of a model lies; never fetches it."""
    from imputer.weights.find import matching
    from imputer.weights.store import file_of

    found = [(entry, file_of(entry)) for entry in matching(model, offline=True)]
    for entry, file in found:
        if file is None:
            raise ModelError(
                f"The file of {entry.id} is not on this machine.", remedy=f"Try 'imputer models pull {model}'."
            )
    records = [{"id": entry.id, "path": str(file)} for entry, file in found]
    if as_json:
        show_json(records if len(records) > 1 else records[0])
    else:
        typer.echo("\n".join(record["path"] for record in records))


@app.command()
@reports_errors
def rm(model: options.ModelId, as_json: options.AsJson = False) -> None:
    """Remove a model that was pulled or imported; prints what is gone. What comes with imputer stays."""
    from imputer.weights.find import matching
    from imputer.weights.hub import SCHEME
    from imputer.weights.store import file_of, remove, remove_file

    if model.startswith(SCHEME):
        here = [entry for entry in matching(model, offline=True) if file_of(entry)]
        if not here:
            raise ModelError(f"No file of {model} is on this machine.", remedy="There is nothing to remove.")
        gone = [path for entry in here for path in remove_file(entry)]
    else:
        gone = remove(model)
    if as_json:
        show_json([str(each) for each in gone])
    else:
        typer.echo("\n".join(str(each) for each in gone))


@app.command()
@reports_errors
def export(
    model: options.ModelId,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Archive to write, e.g. model.zip.")],
    source: From = None,
    target: To = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a model as one file for a machine without a network, where `imputer models import FILE` takes it in."""
    from imputer.weights.archive import export as write_archive
    from imputer.weights.find import named

    written = write_archive(named(model, *_pair(source, target), offline=True), output, overwrite=overwrite)
    if as_json:
        show_json({"id": model, "path": str(written)})
    else:
        typer.echo(str(written))


_OF_CHECKPOINTS = ("--from", "--to", "--targets", "--sources", "--output", "--image-size", "--steps")


@app.command("import")
@reports_errors
def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Archive of 'models export', model file (.safetensors), the SynDiff authors' gen_diffusive_*.pth, "
            "or the ALDM authors' .ckpt.",
        ),
    ],
    source: From = None,
    target: To = None,
    targets: Annotated[
        str | None,
        typer.Option(metavar="MOD,MOD", help="Modalities of the classes of an ALDM checkpoint, in their order."),
    ] = None,
    sources: Annotated[
        str | None, typer.Option(metavar="MOD,MOD", help="Modalities it starts from; without, those of --targets.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write; for a checkpoint, beside it without."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, show_default="256", help="Pixels a side that SynDiff was trained with.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, show_default="4", help="Sampling steps that SynDiff was trained with.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id for a model file; its own without.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring in an archive or a model file, or turn a checkpoint of the SynDiff or ALDM authors into a model file.

    Archives and model files are registered: from then on the model goes by its id, and `synth` may choose it. A
    checkpoint of SynDiff needs --from and --to, one of ALDM (stage 1, stage 2 or latent diffusion) --targets; the file
    that it becomes works with `imputer synth -m FILE`, or is imported in turn. Only tensors are read from it; one that
    holds anything that could run code is refused.

    Example: imputer models import last.ckpt --targets t1,t1ce,t2,flair
    """
    from imputer.weights.archive import is_archive, take_in, take_package

    given = dict(zip(_OF_CHECKPOINTS, (source, target, targets, sources, output, image_size, steps), strict=True))
    archived = is_archive(file)
    if archived or file.suffix == ".safetensors":
        if any(given.values()):
            left = ", ".join(name for name, value in given.items() if value)
            raise UsageError(f"{file.name} says itself what it makes.", remedy=f"Leave {left} out.")
        if archived:
            entry = take_in(file, overwrite=overwrite)
        else:
            entry = take_package(file, identifier=identifier, overwrite=overwrite)
        name, written = entry.id, entry.id
    else:
        written = str(import_checkpoint(file, {**given, "--id": identifier}, overwrite=overwrite))
        name = Path(written).stem
    if as_json:
        show_json({"id": name, "model": written})
    else:
        typer.echo(written)


@app.command()
@reports_errors
def push(
    repo: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="Repository on the Hub; made where there is none.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of 'imputer train', or a model file.")],
    licence: Annotated[
        str | None, typer.Option(metavar="ID", help="Licence of the weights, where the run has none.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "Models made with imputer",
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Upload trained models with a model card; others then run them as `-m hf://OWNER/REPO`. Needs HF_TOKEN.

    Prints the name with its commit, which never changes.

    Example: imputer models push me/t1-to-t2 run --licence CC-BY-4.0
    """
    from imputer.weights import hub, publish

    hub.parse(f"{hub.SCHEME}{repo}")  # before any work
    entries = publish.models_of(run, licence=licence)
    with tempfile.TemporaryDirectory() as folder:
        publish.stage(entries, Path(folder), repo)
        names = sorted(each.name for each in Path(folder).iterdir())
        commit = "" if dry_run else hub.push(repo, Path(folder), private=private, message=message)
    name = f"{hub.SCHEME}{repo}@{commit}" if commit else f"{hub.SCHEME}{repo}"
    if as_json:
        show_json({"model": name, "files": names, "dry_run": dry_run})
    else:
        typer.echo(name)


def _pair(source: str | None, target: str | None) -> list[Modality | None]:
    """What --from and --to name; None for what was left out."""
    return [None if text is None else parse_modality(text) for text in (source, target)]


def _say_licence(entry: Entry, report: Reporter) -> None:
    from imputer.weights.package import non_commercial_notice

    if entry.licence.non_commercial:
        report.warning(non_commercial_notice(entry.id, entry.licence.weights))
