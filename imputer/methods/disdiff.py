"""DisDiff inference: content of the source slices + attribute of the target -> four reverse steps -> target slices.

Zhang et al., DisDiff: Disentanglement Diffusion Network for MR Imaging Translation, section 2.3. The diffusive
generator is conditioned on z_c of the source instead of its pixels, and on z_a of the target: the mean one kept with
the weights, or that of a reference scan, the mean over its slices. A target may be the source's own modality: then the
scan takes on the look of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.diffusion.adversarial import Denoiser
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.errors import ModelError, UsageError
from imputer.methods.base import Identity, RunOptions, checked_scale, fields_of, to_tensor
from imputer.methods.batches import UNMEASURED_SLICES, BatchSize
from imputer.methods.slices import (
    Begin,
    SliceMethod,
    filled_slices,
    shares_of,
    slices_with_head,
)
from imputer.modality import Modality, parse_modality
from imputer.nets.disdiff import DisDiff as Network
from imputer.nets.disdiff import DisDiffConfig, estimated
from imputer.nets.ncsnpp import NCSNppConfig
from imputer.preprocess.recipe import Recipe

NAME = "disdiff"
CITATION = "Zhang et al., DisDiff: Disentanglement Diffusion Network for MR Imaging Translation"


class DisDiff(SliceMethod):
    """A DisDiff model ready to run, from any of its sources to any of its targets.

    Parameters
    ----------
    network : on its device.
    schedule, recipe, output_scale, identity, shared_noise : as in `SliceMethod`.
    joint : whether the sources enter together, any of them; the content is then the mean of theirs, which is ours.
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        recipe: Recipe,
        *,
        output_scale: float,
        identity: Identity,
        shared_noise: bool,
        joint: bool = False,
    ) -> None:
        sources, targets = (
            tuple(parse_modality(each) for each in names) for names in (network.config.sources, network.config.targets)
        )
        super().__init__(
            network, schedule, recipe, sources, targets,
            output_scale=output_scale, identity=identity, shared_noise=shared_noise,
        )  # fmt: skip
        self.network = network
        self.takes_style = network.config.attribute_size > 0
        self.joint = joint

    def attribute_of(self, slices: NDArray[np.float32], target: Modality, at_once: int = 1) -> Tensor:
        """Return the mean attribute (size,) of the slices (S, 1, H, W) in [-1, 1] of a scan that show a head.

        The other ones count where none does. ValueError where all are empty; UsageError where the model has no
        attributes.
        """
        filled = np.flatnonzero(slices_with_head(slices)).tolist() or filled_slices(slices)
        if not filled:
            raise ValueError("no slice shows anything")
        found = []
        with torch.inference_mode():
            for start in range(0, len(filled), at_once):
                batch = to_tensor(slices[filled[start : start + at_once]], self.device)
                found.append(self.network.attribute_of(batch, target.value))
        return torch.cat(found).mean(dim=0)

    def _begin(self, options: RunOptions) -> Begin:
        source = _one_of(self.sources, options.source, "source")
        target = _one_of(self.targets, options.target, "target")
        if options.style is None:
            attribute = self.network.default_attribute(target)
        else:
            at_once = min(UNMEASURED_SLICES, BatchSize(self.device, options.batch_size).now)
            attribute = self.attribute_of(options.style, target, at_once)

        generator = self._ready_to_run(self.network.generator_of(target), options)

        def begin(slices: Tensor, noise: SliceNoise) -> Denoiser:
            if self.joint:
                content = self.network.encode_together(slices, shares_of(slices))
            else:
                content = self.network.encode(slices, source)
            maps = self.network.maps_of(content, target)

            def denoise(x_t: Tensor, t: int) -> Tensor:
                z = noise.normal(self.network.config.noise_size)
                steps = torch.full((len(slices),), t, dtype=torch.int64, device=slices.device)
                return estimated(generator, x_t, maps, steps, z, attribute).float()

            return denoise

        return begin


def _one_of(known: tuple[Modality, ...], wanted: Modality | None, what: str) -> Modality:
    """Return the modality asked for, or the only one; UsageError where there is a choice, or it is none of them."""
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None or wanted not in known:
        raise UsageError(f"The model's {what} must be one of {', '.join(known)}.")
    return wanted


def build(header: Mapping[str, Any], network: Network, identity: Identity) -> DisDiff:
    """Make the method from a package's header and its filled network.

    Raises ModelError where the header lacks something.
    """
    try:
        return DisDiff(
            network,
            Schedule(**header["schedule"]),
            Recipe.from_json(header["recipe"]),
            output_scale=checked_scale(header["output_scale"]),
            identity=identity,
            shared_noise=bool(header.get("shared_noise", False)),
            joint=_is_joint(header),
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelError(f"The header of {identity.id} is incomplete or malformed ({error}).") from error


def _is_joint(header: Mapping[str, Any]) -> bool:
    """Tell whether the sources enter together; ValueError where some may not be missing: each has its content."""
    if header.get("required"):
        raise ValueError("it requires sources, and content comes of any")
    return "required" in header


def network_from_header(header: Mapping[str, Any], name: str) -> Network:
    """Build the network that a header describes, with fresh weights.

    Raises ModelError where the configuration is malformed or names no modality.
    """
    try:
        stored = dict(header["network"])
        generator = NCSNppConfig(**fields_of(stored.pop("generator")))
        sources, targets = (tuple(parse_modality(each).value for each in header[key]) for key in ("sources", "targets"))
        return Network(DisDiffConfig(sources=sources, targets=targets, generator=generator, **fields_of(stored)))
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelError(f"The header of {name} does not describe a DisDiff network ({error}).") from error


def header(
    config: DisDiffConfig,
    schedule: Schedule,
    recipe: Recipe,
    *,
    output_scale: float,
    shared_noise: bool,
    about: Mapping[str, Any],
    joint: bool = False,
) -> dict[str, Any]:
    """Return the package header that `build` reads; `about` holds id, version, title, licence, citation, scope.

    Of a `joint` model the sources enter together, none of them required.
    """
    network = asdict(config)
    sources, targets = (list(network.pop(key)) for key in ("sources", "targets"))
    return {
        "method": NAME,
        "network": network,
        "schedule": schedule.to_json(),
        "recipe": recipe.to_json(),
        "sources": sources,
        "targets": targets,
        **({"required": []} if joint else {}),
        "output_scale": output_scale,
        "shared_noise": shared_noise,
        "about": dict(about),
    }
