"""``imputer evaluate``: predictions against references, as a table, CSV or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, refuse_existing, reports_errors, show_json
from imputer.cli.scores import show_evaluation
from imputer.errors import UsageError

app = typer.Typer()

_HOW = "How it is scored"

Prediction = Annotated[Path, typer.Argument(metavar="PRED", help="Synthetic volume, or a folder of such.")]
Reference = Annotated[Path, typer.Argument(metavar="REF", help="Real volume, or a folder of such.")]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="PATH", rich_help_panel=_HOW, help="What is scored: a mask, or a folder with one a case."),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", rich_help_panel=_HOW, help="Region that is scored apart, e.g. lesions: a mask, or a folder."
    ),
]
Domain = Annotated[
    str | None,
    typer.Option(metavar="mr|ct", rich_help_panel=_HOW, help="Kind of image; told by the name of REF without."),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="syndiff|aldm|synthrad",
        rich_help_panel=_HOW,
        help="Mask, crop, range and figures as a paper defines them.",
    ),
]
Normalise = Annotated[
    str,
    typer.Option(
        metavar="auto|none|mean",
        rich_help_panel=_HOW,
        help="mean: each volume over its own mean. auto: so where a sidecar says that values have no unit.",
    ),
]
DataRange = Annotated[
    float | None,
    typer.Option(
        metavar="R", rich_help_panel=_HOW, help="Range of values for PSNR and SSIM; that of the reference without."
    ),
]
Resample = Annotated[
    bool, typer.Option("--resample", rich_help_panel=_HOW, help="Put PRED onto the grid of REF where they differ.")
]
Against = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Another method's PRED: compared case by case (paired Wilcoxon test)."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the bootstrap intervals.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write one line a case as CSV.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write everything as JSON.")]


@app.command()
@reports_errors
def evaluate(
    prediction: Prediction,
    reference: Reference,
    mask: Mask = None,
    roi: Roi = None,
    domain: Domain = None,
    protocol: ProtocolName = None,
    normalise: Normalise = "auto",
    data_range: DataRange = None,
    resample: Resample = False,
    against: Against = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
    csv: Csv = None,
    output: Output = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Score synthetic volumes against real ones: PSNR, SSIM, MAE, NMSE and MS-SSIM, for CT the error in HU.

    Two files, or two folders whose cases are matched by name. Says which range, mask, crop and normalisation the
    figures have. Where PRED_std.nii.gz lies beside PRED, says whether the deviation tells where the error is.
    """
    from imputer.evaluate import Request, evaluate
    from imputer.report.provenance import write_json
    from imputer.scores_file import as_record, write_csv

    files = [path for path in (csv, output) if path is not None]
    if len(set(files)) < len(files):
        raise UsageError("--csv and --output name the same file.", remedy="Give each its own.")
    refuse_existing(files, overwrite=overwrite)
    request = Request(
        prediction, reference, against, mask, roi, protocol, domain, normalise, data_range, resample, seed
    )
    report = Reporter(quiet=quiet, progress=not no_progress)
    with report.running():
        found = evaluate(request, on_case=lambda done, total: report.step("cases", done, total))
    record = as_record(found)
    for warning in record["warnings"]:
        report.warning(warning)
    for note in record["notes"]:
        report.note(note)
    if csv is not None:
        write_csv(csv, found, overwrite=overwrite)
    if output is not None:
        write_json(output, record, overwrite)
    show_json(record) if as_json else show_evaluation(record)
    for path in files:
        report.note(f"Written: {path}")
    if found.exit_code:
        raise typer.Exit(found.exit_code)
