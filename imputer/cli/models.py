"""``imputer models``: which trained models there are, and bringing them here, elsewhere, in and out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, refuse_damaged, reports_errors, show_fields, show_json, show_table
from imputer.errors import ModelError, UsageError
from imputer.modality import Modality, parse_modality

if TYPE_CHECKING:
    from imputer.weights.manifest import Entry, Score

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
        show_json([_record(entry) for entry in entries])
        return
    heading = ["ID", "FROM", "TO", "METHOD", "SIZE", "LICENCE", "STATE"]
    show_table([heading, *(_row(entry) for entry in entries)])


@app.command()
@reports_errors
def info(model: options.ModelId, offline: options.Offline = False, as_json: options.AsJson = False) -> None:
    """Say all that is known of one model: pair, scope, scores, licences, citation, file."""
    from imputer.weights.find import matching

    records = [_record(entry) for entry in matching(model, offline=offline)]
    if as_json:
        show_json(records if len(records) > 1 else records[0])
        return
    for number, record in enumerate(records):
        if number:
            typer.echo("")
        show_fields(_readable(record))


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


@app.command("import")
@reports_errors
def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Archive of 'models export', model file (.safetensors), or the SynDiff authors' gen_diffusive_*.pth.",
        ),
    ],
    source: From = None,
    target: To = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write; for a checkpoint, beside it without."),
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side that a checkpoint was trained with.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps that a checkpoint was trained with.")] = 4,
    identifier: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id for a model file; its own without.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring in an archive or a model file, or turn a checkpoint of the SynDiff authors into a model file.

    Archives and model files are registered: from then on the model goes by its id, and `synth` may choose it. A
    checkpoint needs --from and --to; the file that it becomes works with `imputer synth -m FILE`, or is imported in
    turn. Only tensors are read from it; one that holds anything else is refused: reading could run code.
    """
    from imputer.weights.archive import is_archive, take_in, take_package

    archived = is_archive(file)
    if archived or file.suffix == ".safetensors":
        if source or target or output:
            raise UsageError(f"{file.name} says itself what it makes.", remedy="Leave --from, --to and --output out.")
        if archived:
            entry = take_in(file, overwrite=overwrite)
        else:
            entry = take_package(file, identifier=identifier, overwrite=overwrite)
        name, written = entry.id, entry.id
    else:
        written = str(_import_checkpoint(file, source, target, output, image_size, steps, overwrite=overwrite))
        name = Path(written).stem
    if as_json:
        show_json({"id": name, "model": written})
    else:
        typer.echo(written)


def _import_checkpoint(
    file: Path,
    source: str | None,
    target: str | None,
    output: Path | None,
    image_size: int,
    steps: int,
    *,
    overwrite: bool,
) -> Path:
    if source is None or target is None:
        raise UsageError("A checkpoint does not say what it makes.", remedy="Add for instance --from t1 --to t2.")
    pair = parse_modality(source), parse_modality(target)
    if pair[0] == pair[1]:
        raise UsageError(f"--from and --to are both {pair[0].value}.", remedy="Give two different modalities.")
    if output is not None and output.suffix != ".safetensors":
        raise UsageError(f"{output.name} does not end in .safetensors.", remedy="Model files do.")
    from imputer.pretrained.official_syndiff import import_checkpoint

    out = output or file.with_suffix(".safetensors")
    return import_checkpoint(file, *pair, out, image_size=image_size, steps=steps, overwrite=overwrite)


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


def _row(entry: Entry) -> list[str]:
    from imputer.weights.hub import name_of
    from imputer.weights.store import file_of

    licence = entry.licence.weights + (" (non-commercial)" if entry.licence.non_commercial else "")
    pair = ["+".join(modalities) for modalities in (entry.sources, entry.targets)]
    repo = name_of(entry).partition("@")[0]  # a commit is too long for a column, and --json has it
    return [repo, *pair, entry.method, _megabytes(entry.bytes), licence, _state(entry, file_of(entry))]


def _state(entry: Entry, file: Path | None) -> str:
    """Where a model is, in a word: whether it can be used at once, or what has to be done first."""
    if not entry.is_runnable:
        return "import-only"
    if entry.embedded:
        return "embedded"
    return "here" if file else "to pull"


def _record(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    from imputer.weights.hub import name_of
    from imputer.weights.store import file_of

    file = file_of(entry)
    home = {key: str(value) for key, value in asdict(entry.home).items()}
    return {
        "id": entry.id,
        "name": name_of(entry),
        "title": entry.title,
        "method": entry.method,
        "from": "+".join(entry.sources),
        "to": "+".join(entry.targets),
        "version": entry.version,
        "scope": asdict(entry.scope),
        "trained_on": entry.trained_on,
        "licence": entry.licence.weights,
        "licences": asdict(entry.licence),
        "citation": entry.citation,
        "scores": [asdict(score) for score in entry.scores],
        "state": _state(entry, file),
        "embedded": entry.embedded,
        "home": home,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "path": str(file) if file else None,
    }


def _readable(record: dict[str, Any]) -> dict[str, object]:
    """The record with one line a field: what a person wants to read."""
    scope, licence, home = record["scope"], record["licences"], record["home"]
    kind = "non-commercial" if licence["non_commercial"] else "commercial use not excluded"
    lines: dict[str, object] = {"id": record["name"]}
    lines.update({key: record[key] for key in ("title", "method", "from", "to", "version")})
    lines["anatomy"] = f"{scope['anatomy']}, skull-stripped: {scope['skull_stripped']}"
    lines["trained for"] = f"pixels of {_span(scope['pixel_mm'])} mm, slices {_span(scope['slice_mm'])} mm apart"
    lines.update({"note": scope["note"]} if scope["note"] else {})
    lines["trained on"] = record["trained_on"]
    lines["licence"] = f"weights {licence['weights']}; code {licence['code']}; data {licence['data']} ({kind})"
    lines["citation"] = record["citation"]
    lines.update({f"score {number}": _said(score) for number, score in enumerate(record["scores"], 1)})
    lines["state"] = record["state"]
    lines.update(home)
    lines.update({"bytes": record["bytes"], "sha256": record["sha256"]} if record["sha256"] else {})
    lines.update({"path": record["path"]} if record["path"] else {})
    return lines


def _span(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _said(score: Score | dict[str, Any]) -> str:
    values = score if isinstance(score, dict) else vars(score)
    beside = (
        f", {values['baseline_name'] or 'baseline'} {values['baseline']:g}" if values["baseline"] is not None else ""
    )
    return f"{values['metric']} {values['value']:g}{beside} ({values['data']}, {values['case']})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else "-"
