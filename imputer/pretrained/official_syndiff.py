"""The authors' SynDiff checkpoints (`gen_diffusive_1_50.pth`) become model packages.

Such a file is a flat dictionary name -> float32 tensor, every name starting with `module.`. The network's shape follows
from the tensors' shapes; image size, steps and normalisation do not, so they are the released defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from imputer.diffusion.schedule import Schedule
from imputer.errors import ModelError, UsageError
from imputer.files import sha256_of, strip_suffixes
from imputer.methods import syndiff
from imputer.modality import Modality
from imputer.nets.checkpoint import load_strictly, write_package
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.preprocess.recipe import released_recipe
from imputer.pretrained.kinds import ALDM, kind_of
from imputer.pretrained.torch_checkpoint import read_state_dict
from imputer.weights.package import NOT_STATED

PREFIX = "module."
OUTPUT_SCALE = 1000.0


def _without_prefix(content: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Take the prefix off the names of a checkpoint; UsageError where it is one of ALDM."""
    if kind_of(content) == ALDM:
        raise UsageError(
            f"{name} is a checkpoint of ALDM, which makes several modalities.",
            remedy="Import it with --targets instead of --from and --to, for instance --targets t1,t1ce,t2,flair.",
        )
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in content.items()}
    if len(tensors) < len(content):
        raise ModelError(f"{name} is not a SynDiff generator: it has tensors both with and without {PREFIX!r}.")
    return tensors


def infer_config(tensors: Mapping[str, Tensor], name: str) -> NCSNppConfig:
    """Infer the generator's shape from its tensors.

    Raises ModelError where they are not those of an NCSN++ generator of SynDiff.
    """
    try:
        return _infer(tensors)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        missing = f" ({error.args[0]} is missing)" if isinstance(error, KeyError) else ""
        raise ModelError(
            f"{name} is not a SynDiff generator: its tensors do not follow the NCSN++ layout{missing}.",
            remedy="Import gen_diffusive_1_*.pth or gen_diffusive_2_*.pth, not a discriminator or an optimiser state.",
        ) from error


def _infer(tensors: Mapping[str, Tensor]) -> NCSNppConfig:
    width = tensors["all_modules.0.weight"].shape[1]
    latent = [key for key in tensors if re.fullmatch(r"z_transform\.\d+\.weight", key)]
    first_latent = tensors["z_transform.1.weight"]
    channels: list[int] = []
    blocks: list[int] = []
    attention: list[int] = []
    level, index = 0, 3
    count, out = 0, width
    levels = 1 + sum(key.endswith("Conv2d_0.weight") for key in tensors)
    while True:
        layer = f"all_modules.{index}."
        if layer + "NIN_0.W" in tensors:
            attention.append(level)
        elif layer + "Conv2d_0.weight" in tensors:  # closes a level; the block before it only resampled
            channels.append(out)
            blocks.append(count - 1)
            level, count = level + 1, 0
        else:
            out = tensors[layer + "Conv_0.weight"].shape[0]
            count += 1
            last_level = level == levels - 1
            if last_level and blocks and count == blocks[0]:
                break
            if last_level and not blocks:
                raise ValueError("a single level")
        index += 1
    channels.append(out)
    if f"all_modules.{index + 1}.NIN_0.W" in tensors:  # of the lowest level, or of the middle one block later
        attention.append(level)
    if len(set(blocks)) > 1 or any(value % width for value in channels):
        raise ValueError("uneven levels")
    return NCSNppConfig(
        width=width,
        channel_multipliers=tuple(value // width for value in channels),
        blocks_per_level=blocks[0],
        attention_levels=tuple(sorted(set(attention))),
        image_channels=tensors["all_modules.2.weight"].shape[1],
        latent_size=first_latent.shape[1],
        latent_width=first_latent.shape[0],
        latent_layers=len(latent),
    )


def import_network(content: Mapping[str, Tensor], name: str) -> NCSNpp:
    """Return the bare generator of a checkpoint's tensors, on the CPU, in evaluation mode; `name` is the file's.

    Raises ModelError as `infer_config`, and where names are missing or unknown; UsageError where it is one of ALDM.
    """
    tensors = _without_prefix(content, name)
    config = infer_config(tensors, name)
    with torch.device("meta"):
        generator = NCSNpp(config)
    load_strictly(generator, tensors, name)
    return generator.eval().requires_grad_(False)


def import_checkpoint(
    path: Path,
    source: Modality,
    target: Modality,
    out: Path,
    *,
    image_size: int = 256,
    steps: int = 4,
    overwrite: bool = False,
) -> Path:
    """Write the authors' checkpoint as a model package at `out` and return it.

    Raises ModelError as `read_state_dict` and `import_network` do, UsageError where the file is a checkpoint of ALDM or
    the steps make no schedule, and OutputError where `out` cannot be written.
    """
    generator = import_network(read_state_dict(path), path.name)
    try:
        schedule = Schedule(steps=steps)
    except ValueError as error:
        raise UsageError(f"These steps make no schedule: {error}.") from error
    if image_size % generator.config.size_multiple:
        raise ModelError(f"{path.name} needs an image size that is a multiple of {generator.config.size_multiple}.")
    about = {
        "id": strip_suffixes(out),
        "version": "imported",
        "title": f"SynDiff {source} to {target}, imported from an authors' checkpoint",
        "licence": NOT_STATED,
        "code_licence": "MIT; in part for research and evaluation only (the SynDiff authors')",
        "non_commercial": True,  # of weights that come without a licence the careful reading
        "citation": syndiff.CITATION,
        "trained_on": "see the checkpoint's authors",
        "imported_sha256": sha256_of(path),
        "scope": {"source": str(source), "target": str(target)},
    }
    recipe = released_recipe(image_size)
    header = syndiff.header(
        generator.config, schedule, recipe, source, target,
        output_scale=OUTPUT_SCALE, shared_noise=False, about=about,
    )  # fmt: skip
    write_package(out, generator.state_dict(), header, overwrite=overwrite)
    return out
