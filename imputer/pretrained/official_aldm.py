"""The ALDM authors' checkpoints become model packages: the first stage (stage 1 or 2), or the latent diffusion model.

All three are Lightning's. A first stage has its names at the top (`encoder.`, `decoder.`, `quantize.`, `quant_conv.`,
`post_quant_conv.`; stage 2 also `spade.`), a latent diffusion model under `first_stage_model.`, the UNet under
`model.diffusion_model.` and its running average under `model_ema.`. The networks' shapes follow from the tensors'
shapes; groups of norms and channels of a head do not, so they are the released ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imputer.errors import ModelError, UsageError
from imputer.files import sha256_of, strip_suffixes
from imputer.methods import aldm
from imputer.modality import Modality
from imputer.nets.aldm import ALDM, AutoencoderModel, make_aldm
from imputer.nets.checkpoint import load_strictly, write_package
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.preprocess.recipe import aldm_released_recipe
from imputer.pretrained.kinds import SYNDIFF, kind_of
from imputer.pretrained.torch_checkpoint import read_state_dict
from imputer.safetensors_header import visible
from imputer.weights.package import NOT_STATED

OUTPUT_SCALE = 1000.0
GROUPS, HEAD_CHANNELS = 32, 32
_FIRST_STAGE, _UNET, _AVERAGE = "first_stage_model.", "model.diffusion_model.", "model_ema."
_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.", "spade.")
_LOSS = "loss."  # discriminators and perceptual networks of the training
# Tables of the noise schedule and counters, which follow from other numbers or were of use in training only.
_IGNORED = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "model_ema.decay",
    "model_ema.num_updates",
}
_SCALE = "scale_factor"  # of latents; the released model has none
_LISTED, _LONGEST = 40, 100  # names in a message, and characters of each
_OTHERS = "Import stage 1 or stage 2 of the autoencoder, or the latent diffusion model."
_MOST_LEVELS = 8


@dataclass(frozen=True)
class Parts:
    """The tensors of a checkpoint by what they belong to, under the names of our networks.

    Parameters
    ----------
    first_stage : autoencoder and, of stage 2, MS-SPADE.
    unet : of a latent diffusion model; empty for a first stage alone.
    average : the UNet's running average, names as `_squeezed` gives them; empty where there is none.
    """

    first_stage: dict[str, Tensor]
    unet: dict[str, Tensor]
    average: dict[str, Tensor]


def import_network(tensors: Mapping[str, Tensor], name: str) -> AutoencoderModel:
    """Return the bare network of a checkpoint's tensors, on the CPU, in evaluation mode: an `ALDM` where it has a UNet.

    The UNet is the running average where there is one. Raises ModelError where names are missing or unknown, or shapes
    do not fit each other; `name` is the file's.
    """
    parts = split(tensors, name)
    first_stage, unet = infer_config(parts, name)
    with torch.device("meta"):
        network = make_aldm(first_stage, unet)
    load_strictly(network.first_stage, parts.first_stage, name)
    if isinstance(network, ALDM):
        load_strictly(network.unet, parts.unet, name)
        if parts.average:
            load_strictly(network.unet, _named(parts.average, parts.unet), f"{name}, of the running average,")
    return network.eval().requires_grad_(False)


def split(tensors: Mapping[str, Tensor], name: str) -> Parts:
    """Sort the tensors of a checkpoint; ModelError that lists what is unknown, or says which part is missing."""
    is_whole = any(key.startswith((_FIRST_STAGE, _UNET, _AVERAGE)) for key in tensors)
    parts, unknown = Parts({}, {}, {}), []
    for key, tensor in tensors.items():
        inner = key.removeprefix(_FIRST_STAGE) if is_whole else key
        if key in _IGNORED or (key == _SCALE and tensor.numel() == 1 and float(tensor) == 1):
            continue
        if key.startswith(_LOSS) or inner.startswith(_LOSS):
            continue
        if inner.startswith(_PARTS) and (key != inner or not is_whole):
            parts.first_stage[inner] = tensor
        elif key.startswith(_UNET):
            parts.unet[key.removeprefix(_UNET)] = tensor
        elif key.startswith(_AVERAGE):
            parts.average[key.removeprefix(_AVERAGE)] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise ModelError(f"{name} is not a checkpoint of ALDM: it has {_list(unknown)}.", remedy=_OTHERS)
    if is_whole:
        _check_whole(parts, name)
    return parts


def _check_whole(parts: Parts, name: str) -> None:
    """Refuse a latent diffusion model that lacks a stage."""
    has_spade = any(key.startswith("spade.") for key in parts.first_stage)
    lacking = [
        what
        for what, is_there in (
            (f"the UNet ({_UNET}*)", bool(parts.unet)),
            (f"the autoencoder ({_FIRST_STAGE}*)", bool(parts.first_stage)),
            (f"MS-SPADE ({_FIRST_STAGE}spade.*, of stage 2)", has_spade or not parts.first_stage),
        )
        if not is_there
    ]
    if lacking:
        raise ModelError(
            f"{name} is a part of ALDM's latent diffusion model: it lacks {' and '.join(lacking)}.",
            remedy="Import the whole checkpoint, as the training saved it.",
        )


def infer_config(parts: Parts, name: str) -> tuple[FirstStageConfig, LatentUNetConfig | None]:
    """Infer the shapes of the networks from their tensors.

    Raises ModelError where they are not those of ALDM, or the parts do not fit each other.
    """
    try:
        first_stage = _first_stage(parts.first_stage)
        unet = _unet(parts.unet) if parts.unet else None
        _check_fit(parts.first_stage, first_stage, unet)
    except (KeyError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise ModelError(f"{name} is not a checkpoint of ALDM: {reason}.", remedy=_OTHERS) from error
    return first_stage, unet


def _first_stage(tensors: Mapping[str, Tensor]) -> FirstStageConfig:
    width = _channels(tensors, "encoder.conv_in.weight")
    levels = _count(tensors, r"encoder\.down\.(\d+)\.")
    blocks = _count(tensors, r"encoder\.down\.0\.block\.(\d+)\.")
    channels = [_channels(tensors, f"encoder.down.{level}.block.0.conv1.weight") for level in range(levels)]
    classes = _count(tensors, r"spade\.block\.0\.norm_0\.spades\.(\d+)\.")
    spade: dict[str, tuple[int, ...] | int] = {}
    if any(key.startswith("spade.") for key in tensors):
        count = _count(tensors, r"spade\.block\.(\d+)\.")
        spade["spade_widths"] = tuple(_channels(tensors, f"spade.block.{at}.conv_1.weight") for at in range(count - 1))
        spade["spade_hidden"] = _channels(tensors, "spade.block.0.norm_0.spades.0.mlp_shared.0.weight")
    return FirstStageConfig(
        width=width,
        channel_multipliers=_multipliers(channels, width),
        blocks_per_level=blocks,
        latent_channels=_channels(tensors, "encoder.conv_out.weight"),
        codebook_size=_channels(tensors, "quantize.embedding.weight"),
        groups=GROUPS,
        classes=classes,
        **spade,  # type: ignore[arg-type]
    )


def _unet(tensors: Mapping[str, Tensor]) -> LatentUNetConfig:
    width = _channels(tensors, "input_blocks.0.0.weight")
    channels, blocks = [0], [0]  # by level
    attention: set[int] = set()
    for number in range(1, _count(tensors, r"input_blocks\.(\d+)\.")):
        block = f"input_blocks.{number}."
        if f"{block}0.op.weight" in tensors:
            channels.append(0)
            blocks.append(0)
            continue
        channels[-1] = _channels(tensors, f"{block}0.in_layers.2.weight")
        blocks[-1] += 1
        if f"{block}1.qkv.weight" in tensors:
            attention.add(len(blocks) - 1)
    if len(set(blocks)) > 1:
        raise ValueError("the levels of its UNet are uneven")
    return LatentUNetConfig(
        width=width,
        channel_multipliers=_multipliers(channels, width),
        blocks_per_level=blocks[0],
        attention_factors=tuple(2**level for level in sorted(attention)),
        head_channels=HEAD_CHANNELS,
        inputs=_channels(tensors, "input_blocks.0.0.weight", 1),
        outputs=_channels(tensors, "out.2.weight"),
        classes=_channels(tensors, "label_emb.weight"),
        groups=GROUPS,
    )


def _check_fit(tensors: Mapping[str, Tensor], first_stage: FirstStageConfig, unet: LatentUNetConfig | None) -> None:
    """ValueError where codebook, autoencoder, MS-SPADE and UNet are not of one model."""
    latent = first_stage.latent_channels
    entries = _channels(tensors, "quantize.embedding.weight", 1)
    if entries != latent:
        raise ValueError(f"its codebook has entries of {entries} values, and its latents have {latent} channels")
    if unet is None:
        return
    if (unet.inputs, unet.outputs) != (3 * latent, latent):
        raise ValueError(
            f"its UNet takes {unet.inputs} and gives {unet.outputs} channels instead of {3 * latent} and {latent}"
        )
    if unet.classes != first_stage.classes:
        raise ValueError(f"its UNet knows {unet.classes} classes, and its MS-SPADE {first_stage.classes}")


def _channels(tensors: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    """Length of an axis of a tensor; KeyError where it is missing, ValueError where it has no such axis."""
    shape = tuple(tensors[key].shape)
    if len(shape) <= axis:
        raise ValueError(f"{key} has the shape {shape}")
    return int(shape[axis])


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers stand in names that begin like this."""
    return len({found[1] for key in tensors if (found := re.match(pattern, key))})


def _multipliers(channels: Sequence[int], width: int) -> tuple[int, ...]:
    """Channels of the levels in units of the width."""
    if not width or not 1 <= len(channels) <= _MOST_LEVELS or any(each % width for each in channels):
        raise ValueError(f"its levels are not 1 to {_MOST_LEVELS}, or their channels no multiples of the first's")
    return tuple(each // width for each in channels)


def _named(average: Mapping[str, Tensor], unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The running average under the UNet's names; what is none of them keeps its own."""
    names = {f"diffusion_model.{key}".replace(".", ""): key for key in unet}
    return {names.get(key, _AVERAGE + key): tensor for key, tensor in average.items()}


def _list(names: Sequence[str]) -> str:
    """Foreign names for a message; there may be very many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"the unknown {', '.join(visible(each, longest=_LONGEST) for each in sorted(names)[:_LISTED])}{more}"


def import_checkpoint(
    path: Path,
    targets: Sequence[Modality],
    out: Path,
    *,
    sources: Sequence[Modality] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the authors' checkpoint as a model package at `out` and return it.

    Parameters
    ----------
    path : stage 1 or 2 of the autoencoder, or the latent diffusion model.
    targets : modalities in the order of its classes; of stage 1, which has none, what it encodes.
    sources : modalities that it starts from; None: the targets.

    Raises
    ------
    ModelError
        As `import_network` does, and where the classes are not as many as the targets.
    UsageError
        Where the file is a SynDiff generator, or the modalities make no pair.
    OutputError
        Where `out` cannot be written.
    """
    tensors = read_state_dict(path)
    if kind_of(tensors) == SYNDIFF:
        raise UsageError(
            f"{path.name} is a SynDiff generator, which makes one modality from one other.",
            remedy="Import it with --from and --to, for instance --from t1 --to t2.",
        )
    network = import_network(tensors, path.name)
    sources = tuple(sources or targets)
    _check_modalities(network, sources, targets, path.name)
    about = {
        "id": strip_suffixes(out),
        "version": "imported",
        "title": f"{_title(network)}, {', '.join(targets)}, imported from an authors' checkpoint",
        "licence": NOT_STATED,
        "code_licence": "Apache-2.0 (the ALDM authors'); applies code of SPADE (CC BY-NC-SA 4.0)",
        "non_commercial": True,  # of weights that come without a licence the careful reading
        "citation": aldm.CITATION,
        "trained_on": "see the checkpoint's authors",
        "imported_sha256": sha256_of(path),
        "scope": {"sources": [str(each) for each in sources], "targets": [str(each) for each in targets]},
    }
    header = aldm.header(network, aldm_released_recipe(), sources, targets, output_scale=OUTPUT_SCALE, about=about)
    write_package(out, network.state_dict(), header, overwrite=overwrite)
    return out


def _check_modalities(
    network: AutoencoderModel, sources: Sequence[Modality], targets: Sequence[Modality], name: str
) -> None:
    classes = network.first_stage.config.classes
    if not targets or any(len(set(each)) < len(each) for each in (sources, targets)):
        raise UsageError("A modality is named twice, or none is.", remedy="Name each target and each source once.")
    if not classes:
        return
    if classes != len(targets):
        raise ModelError(
            f"{name} has {classes} classes, and {len(targets)} targets are named: {', '.join(targets)}.",
            remedy="Name the modality of each class, in their order; the released one has t1,t1ce,t2,flair.",
        )
    if all(source == target for source in sources for target in targets):
        raise UsageError(f"{targets[0]} alone makes no pair.", remedy="Give two different modalities.")


def _title(network: AutoencoderModel) -> str:
    if isinstance(network, ALDM):
        return "ALDM"
    return "ALDM's autoencoder with MS-SPADE" if network.first_stage.config.classes else "ALDM's autoencoder alone"
