"""Options that several commands share, one definition each, and what the shell may complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from imputer.errors import InputError, UsageError
from imputer.modality import Modality, parse_modality, split_role

_DEVICES = re.compile(r"auto|cpu|mps|(cuda|gpu)(:\d+)?")
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_SAMPLERS = ("projector", "ddim", "none")


def complete_modality(incomplete: str) -> list[str]:
    """Modalities that begin with what was typed."""
    return [modality.value for modality in Modality if modality.value.startswith(incomplete.lower())]


def complete_model(incomplete: str) -> list[str]:
    """Ids of the models that begin with what was typed."""
    from imputer.weights.store import all_entries

    return [entry.id for entry in all_entries() if entry.id.startswith(incomplete)]


def checked_device(text: str) -> str:
    """The device as given; UsageError unless it is written as one. Whether the machine has it shows later."""
    if not _DEVICES.fullmatch(text):
        raise UsageError(f"There is no device {text!r}.", remedy="Use auto, cpu, cuda, cuda:N, gpu, gpu:N or mps.")
    return text


def checked_precision(text: str) -> str:
    """The precision as given; UsageError unless it is one of those that exist."""
    if text not in _PRECISIONS:
        raise UsageError(f"There is no precision {text!r}.", remedy=f"Use one of {', '.join(_PRECISIONS)}.")
    return text


def checked_sampler(text: str | None) -> str | None:
    """The sampler as given; UsageError unless it is one of those that exist. Whether the model has it shows later."""
    if text is not None and text not in _SAMPLERS:
        raise UsageError(f"There is no sampler {text!r}.", remedy=f"Use one of {', '.join(_SAMPLERS)}.")
    return text


def checked_batch_size(text: str) -> str | int:
    """``auto`` or a positive whole number; UsageError otherwise."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"The batch size {text!r} is neither auto nor a whole number above 0.")
    return int(text)


def chosen_steps(steps: int | None, *, fast: bool) -> int | None:
    """The number of sampling steps, None for the model's own; UsageError where it is said twice."""
    if fast and steps is not None:
        raise UsageError("--fast and --steps say the same thing.", remedy="Give one of them.")
    return _FAST_STEPS if fast else steps


def absolute_style(text: str | None) -> str | None:
    """``[MOD=]PATH`` with an absolute path, for processes that may work elsewhere. InputError where there is none."""
    if text is None:
        return None
    path, modality = split_role(text)
    if not path.exists():
        raise InputError(f"There is no {path.name} to take the style from.", remedy="Check --style-from.")
    return f"{'' if modality is None else f'{modality}='}{path.absolute()}"


def chosen_targets(to: list[str]) -> list[Modality]:
    """The modalities to make, each once; UsageError where there is none, or one is unknown."""
    if not to:
        raise UsageError("The modality to make is missing.", remedy="Add for instance --to t2.")
    return list(dict.fromkeys(parse_modality(text) for text in to))


_FAST_STEPS = 1  # one evaluation of the generator: its first estimate of the clean image
_RUN = "How it runs"
_SAY = "What it says"
_DICOM = "DICOM"

Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        envvar="IMPUTER_DEVICE",
        metavar="DEVICE",
        rich_help_panel=_RUN,
        help="auto, cpu, cuda, cuda:N, gpu, gpu:N or mps. Only auto falls back to another one.",
    ),
]
Precision = Annotated[
    str, typer.Option(metavar="auto|fp32|bf16|fp16", rich_help_panel=_RUN, help="Number format of the network.")
]
BatchSize = Annotated[
    str,
    typer.Option(metavar="N|auto", rich_help_panel=_RUN, help="Slices at a time; the result does not depend on it."),
]
Seed = Annotated[int, typer.Option(min=0, rich_help_panel=_RUN, help="The same seed gives the same volume.")]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="IMPUTER_OFFLINE",
        rich_help_panel=_RUN,
        help="Never use the network: only models that are here already. HF_HUB_OFFLINE does the same.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what would be done, write no output (may fetch a model)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=_SAY, help="Say nothing but warnings and errors.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, rich_help_panel=_SAY, help="Say more; -vv says most.")
]
LogJson = Annotated[
    bool, typer.Option("--log-json", rich_help_panel=_SAY, help="Notes and progress as one JSON object a line.")
]
NoProgress = Annotated[bool, typer.Option("--no-progress", rich_help_panel=_SAY, help="Show no progress bar.")]
SourceModality = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MOD",
        autocompletion=complete_modality,
        help="Modality of the input, where its name or header does not tell (t1, t1ce, t2, flair, pd, ct).",
    ),
]
TargetModality = Annotated[
    str, typer.Option("--to", metavar="MOD", autocompletion=complete_modality, help="Modality to make.")
]
TargetModalities = Annotated[
    list[str],
    typer.Option(
        "--to", metavar="MOD", autocompletion=complete_modality, help="Modality to make; may be given several times."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ID",
        autocompletion=complete_model,
        help="Model id (imputer models list), hf://owner/repo or a file; the best fitting one without.",
    ),
]
StyleFrom = Annotated[
    str | None,
    typer.Option(
        metavar="[MOD=]PATH",
        help="Scan of the modality to make whose look the result shall have, with a model of DisDiff; t2=PATH says "
        "what it is. It may be the input's own modality.",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", rich_help_panel=_DICOM, help="Series to take: its number, UID or description (see inspect)."
    ),
]
ModelId = Annotated[
    str, typer.Argument(metavar="ID", autocompletion=complete_model, help="Id of a model, or hf://owner/repo.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="File to write, or a folder for several targets or DICOM. Beside the input without, never over it.",
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps; the model's own without.")]
Fast = Annotated[bool, typer.Option("--fast", "-f", help="One sampling step: quicker, with less detail.")]
Sampler = Annotated[
    str | None,
    typer.Option(
        metavar="projector|ddim|none",
        rich_help_panel=_RUN,
        help="How a model of whole volumes samples; none: not at all. The model's own without.",
    ),
]
Eta = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, rich_help_panel=_RUN, help="Noise of the sampler ddim: 0 none, 1 as much as it can take."
    ),
]
Samples = Annotated[int, typer.Option(min=1, help="Draw several; writes their mean and standard deviation.")]
OutputTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--output-type", "-ot", metavar="nifti|dicom", help="Kind of file to write; as the input without. Repeatable."
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", rich_help_panel=_DICOM, help="Which of several volumes in a series, e.g. EchoTime=5.19."
    ),
]
ReferenceDicom = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=_DICOM,
        help="Series that a NIfTI input was converted from: writes DICOM with its patient, study and geometry.",
    ),
]
SeriesNumber = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**31 - 1,
        rich_help_panel=_DICOM,
        help="Number of the new series; without, 100 times that of the source and 91 to 96, by the contrast.",
    ),
]
Preview = Annotated[bool, typer.Option("--preview", help="Also draw source and result as a PNG.")]
Anatomy = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What the volume shows, e.g. brain: the choice of the model heeds it."),
]
Force = Annotated[bool, typer.Option("--force", help="Run although the input is outside the model's scope.")]
