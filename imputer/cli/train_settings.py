"""From the options of ``imputer train``, which are text, to the settings of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from imputer.errors import UsageError
from imputer.modality import parse_modality

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    AnyConfig = TypeVar("AnyConfig", bound=DataclassInstance)


def slice_data(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of where the slices of the contrasts come from, from the options of a command.

    UsageError where the folders of several sources are not one for each.
    """
    first, *others = (parse_modality(each).value for each in given["from_"])
    folder, *folders = map(str, given["source"])
    if folders and len(folders) != len(others):
        raise UsageError(
            f"There are {len(folders) + 1} --source for {len(others) + 1} --from.",
            remedy="Give one for each, or one for all.",
        )
    return {
        "source_dir": folder,
        "target_dir": str(given["target"]),
        "output": str(given["output"]),
        "source": first,
        "other_sources": tuple(others),
        "other_source_dirs": tuple(folders),
        "target": parse_modality(given["to"]).value,
        "paired": given["paired"],
        "register": given["register"],
        "holdout": tuple(given["holdout"] or ()),
        "exclude": tuple(given["exclude"] or ()),
    }


def slice_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of a command that are settings of any training on slices; None where one was not given."""
    return {
        "crop": crop_of(given["crop"]) if given["crop"] is not None else None,
        "accelerator": given["device"],
        **{name: given[name] for name in ("steps", "batch_size", "seed", "precision", "devices")},
    }


def completed(config: AnyConfig, given: dict[str, Any], others: Sequence[str]) -> AnyConfig:
    """The settings with the options that were given, and each ``name=value`` read as the kind that is there.

    UsageError for a name that is no setting, or a value of another kind.
    """
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    known = asdict(config)
    usual = {field.name: field.default for field in fields(config)}  # an empty tuple does not tell of what it is one
    for text in others:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            raise UsageError(f"There is no setting {name!r}.", remedy=f"Settings: {', '.join(known)}.")
        try:
            config = replace(config, **{name: setting_of(value, known[name] or usual[name])})
        except ValueError as error:
            raise UsageError(f"{value!r} is no value for the setting {name}.") from error
    return config


def setting_of(text: str, like: Any) -> Any:
    """Read a setting's value as the kind that `like` has; ValueError where it is none."""
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(like, tuple):
        kind = type(like[0]) if like else str
        return tuple(kind(part) for part in text.split(",") if part)
    return type(like)(text)


def crop_of(text: str) -> tuple[int, int]:
    """Height and width from ``256x256``; UsageError otherwise."""
    if not re.fullmatch(r"\d{1,5}x\d{1,5}", text):
        raise UsageError(f"The crop {text!r} is not height x width.", remedy="Example: --crop 256x256.")
    height, width = text.split("x")
    return int(height), int(width)
