"""SynDiff inference: source slices -> four reverse steps of adversarial diffusion -> target slices.

Ozbey et al., Unsupervised medical image translation with adversarial diffusion models, IEEE TMI 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from imputer.diffusion.adversarial import Denoiser
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.errors import ModelError, UsageError
from imputer.methods.base import Identity, RunOptions, checked_scale, fields_of
from imputer.methods.slices import BACKGROUND, Begin, SliceMethod, shares_of
from imputer.modality import Modality, parse_modality
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.preprocess.recipe import Recipe

NAME = "syndiff"
CITATION = "Ozbey et al., Unsupervised medical image translation with adversarial diffusion models, IEEE TMI 2023"
# How several sources are brought together: in one call of the network, or as the mean of what it makes of each alone.
FUSIONS = CHANNELS, MEAN = "channels", "mean"


class SynDiff(SliceMethod):
    """A SynDiff generator ready to run.

    Parameters
    ----------
    generator : network on its device.
    schedule : of the reverse diffusion.
    recipe : how a source volume becomes slices.
    source, target : modalities.
    others : sources that enter beside the first, in the order of their channels; any of all of them may be missing.
    required : those of all sources that may not.
    fusion : of several sources, one of `FUSIONS`. "mean" is ours: at each step the mean of the estimates of x_0 from
        each source alone. A network that sees all at once follows the one that served it best in training, also where
        another is the better guide; of few patients it learns no more.
    output_scale : intensity of the written volume where the network says 1.
    identity : who the model is.
    shared_noise : whether all slices of a volume share their noise by default.
    """

    def __init__(
        self,
        generator: NCSNpp,
        schedule: Schedule,
        recipe: Recipe,
        source: Modality,
        target: Modality,
        *,
        output_scale: float,
        identity: Identity,
        shared_noise: bool,
        others: Sequence[Modality] = (),
        required: Sequence[Modality] = (),
        fusion: str = CHANNELS,
    ) -> None:
        super().__init__(
            generator, schedule, recipe, (source, *others), (target,),
            output_scale=output_scale, identity=identity, shared_noise=shared_noise,
        )  # fmt: skip
        self.generator = generator
        self.joint = len(self.sources) > 1
        self.required = tuple(required) if self.joint else ()
        self.fusion = fusion

    def _begin(self, options: RunOptions) -> Begin:
        generator, latent_size = self._ready_to_run(self.generator, options), self.generator.config.latent_size

        def begin(source: Tensor, noise: SliceNoise) -> Denoiser:
            conditions = one_by_one(source) if self.joint and self.fusion == MEAN else [(source, torch.ones(()))]

            def denoise(x_t: Tensor, t: int) -> Tensor:
                z = noise.normal(latent_size)
                steps = torch.full((len(source),), t, dtype=torch.int64, device=source.device)
                estimates = (
                    share * generator(torch.cat([x_t, condition], dim=1), steps, z)[:, :1].float()
                    for condition, share in conditions
                )
                return sum(estimates, start=torch.zeros((), device=source.device))

            return denoise

        return begin


def one_by_one(source: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return what the network is told where it sees each source alone, and how much of the estimate that makes.

    Parameters
    ----------
    source : (B, N, H, W), -1 throughout where a slice has nothing of a source.

    Returns
    -------
    For each source that any slice shows: its channel, the others -1, (B, N, H, W); and its `shares_of`, (B, 1, 1, 1).
    """
    shares, found = shares_of(source), []
    for number in shares.any(dim=0).nonzero().flatten().tolist():
        alone = torch.full_like(source, BACKGROUND)
        alone[:, number] = source[:, number]
        found.append((alone, shares[:, number, None, None, None]))
    return found


def build(
    header: Mapping[str, Any], generator: NCSNpp, identity: Identity, *, shared_noise: bool | None = None
) -> SynDiff:
    """Make the method from a package's header and its filled network.

    Raises ModelError where the header lacks something.
    """
    try:
        sources = [parse_modality(name) for name in header.get("sources") or [header["source"]]]
        if len(set(sources)) < len(sources) or generator.config.image_channels != 1 + len(sources):
            raise ValueError(f"{len(sources)} sources for {generator.config.image_channels} channels, or one twice")
        required = [parse_modality(name) for name in header.get("required", sources)]
        fusion = str(header.get("fusion", CHANNELS))
        if fusion not in FUSIONS:
            raise ValueError(f"its fusion {fusion!r} is unknown")
        if not set(required) <= set(sources):
            raise ValueError("it requires what is none of its sources")
        return SynDiff(
            generator,
            Schedule(**header["schedule"]),
            Recipe.from_json(header["recipe"]),
            sources[0],
            parse_modality(header["target"]),
            others=sources[1:],
            required=required,
            fusion=fusion,
            output_scale=checked_scale(header["output_scale"]),
            identity=identity,
            shared_noise=bool(header.get("shared_noise", False)) if shared_noise is None else shared_noise,
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelError(f"The header of {identity.id} is incomplete or malformed ({error}).") from error


def network_from_header(header: Mapping[str, Any], name: str) -> NCSNpp:
    """Build the generator that a header describes, with fresh weights.

    Raises ModelError where the configuration is malformed.
    """
    try:
        return NCSNpp(NCSNppConfig(**fields_of(header["network"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The header of {name} does not describe an NCSN++ generator ({error}).") from error


def header(
    config: NCSNppConfig,
    schedule: Schedule,
    recipe: Recipe,
    source: Modality,
    target: Modality,
    *,
    output_scale: float,
    shared_noise: bool,
    about: Mapping[str, Any],
    others: Sequence[Modality] = (),
    required: Sequence[Modality] = (),
    fusion: str = CHANNELS,
) -> dict[str, Any]:
    """Return the package header that `build` reads; `about` holds id, version, title, licence, citation, scope.

    `others` are the sources that enter together with the first one, `required` those of all that may not be missing,
    `fusion` is how they are brought together.
    """
    sources: dict[str, Any] = {"sources": list(map(str, (source, *others))), "required": list(map(str, required))}
    if fusion != CHANNELS:
        sources["fusion"] = fusion
    return {
        "method": NAME,
        "network": asdict(config),
        "schedule": schedule.to_json(),
        "recipe": recipe.to_json(),
        **(sources if others else {"source": str(source)}),
        "target": str(target),
        "output_scale": output_scale,
        "shared_noise": shared_noise,
        "about": dict(about),
    }
