"""SynDiff inference: source slices -> four reverse steps of adversarial diffusion -> target slices.

Ozbey et al., Unsupervised medical image translation with adversarial diffusion models, IEEE TMI 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.diffusion.adversarial import sample
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.errors import DeviceError, ModelError, UsageError
from imputer.methods.base import (
    PRECISIONS,
    Identity,
    RunOptions,
    Sampling,
    checked_scale,
    fields_of,
    to_array,
    to_tensor,
)
from imputer.modality import Modality, parse_modality
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.preprocess.recipe import Recipe

NAME = "syndiff"
CITATION = "Ozbey et al., Unsupervised medical image translation with adversarial diffusion models, IEEE TMI 2023"
BACKGROUND = -1.0
GPU_BATCH = 16  # slices; a CPU takes one at a time: fastest (it stays in the cache), and the same bits for any batch


class SynDiff:
    """A SynDiff generator ready to run.

    Parameters
    ----------
    generator : network on its device.
    schedule : of the reverse diffusion.
    recipe : how a source volume becomes slices.
    source, target : modalities.
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
    ) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.schedule = schedule
        self.recipe = recipe
        self.sources: tuple[Modality, ...] = (source,)
        self.targets: tuple[Modality, ...] = (target,)
        self.output_scale = output_scale
        self.identity = identity
        self.shared_noise = shared_noise

    @property
    def steps(self) -> int:
        """Reverse steps that the model was trained for."""
        return self.schedule.steps

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        device: torch.device = next(self.generator.parameters()).device
        return device

    def sampling(self, options: RunOptions) -> Sampling:
        """Say in how many steps a run with these options samples; UsageError for what the model has not."""
        if options.sampler is not None or options.eta is not None:
            raise UsageError(
                f"Model {self.identity.id} has one sampler and no eta.", remedy="Leave --sampler and --eta out."
            )
        if options.steps is not None and not 1 <= options.steps <= self.steps:
            raise UsageError(f"Model {self.identity.id} runs 1 to {self.steps} steps, not {options.steps}.")
        return Sampling(options.steps or self.steps)

    def units(self, stack: NDArray[np.float32], options: RunOptions) -> int:
        """Return the number of slices: what `run` reports as it goes."""
        self.sampling(options)
        return len(stack)

    def run(
        self, stack: NDArray[np.float32], options: RunOptions, on_units: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Synthesise the target of source slices (S, 1, H, W) in [-1, 1]; same shape and range.

        Slices that are all background are written as background without running the network. The noise of a slice
        depends on (seed, case, slice index) alone, so neither that nor the batch size changes the other slices.
        Out of memory halves the batch; DeviceError when one slice does not fit. `on_units` is told the slices done.
        """
        self.sampling(options)
        result = np.full_like(stack, BACKGROUND)
        pending = [int(k) for k in np.flatnonzero((stack > BACKGROUND).any(axis=(1, 2, 3)))]
        if on_units is not None:
            on_units(len(stack) - len(pending))
        size = 1 if self.device.type == "cpu" else options.batch_size or GPU_BATCH
        while pending:
            batch = pending[:size]
            try:
                result[batch] = self._run_batch(stack, batch, options)
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise DeviceError(
                        "One slice does not fit into the device's memory.", remedy="Use --device cpu."
                    ) from error
                size = max(1, size // 2)
                torch.cuda.empty_cache()
                continue
            pending = pending[size:]
            if on_units is not None:
                on_units(len(batch))
        return result

    def _run_batch(self, stack: NDArray[np.float32], indices: list[int], options: RunOptions) -> NDArray[np.float32]:
        device, dtype = self.device, PRECISIONS[options.precision]
        shared = self.shared_noise if options.shared_noise is None else options.shared_noise
        noise = SliceNoise(options.seed, options.case, indices, shared=shared, device=device)
        source = to_tensor(stack[indices], device)

        def denoise(x_t: Tensor, t: int) -> Tensor:
            z = noise.normal(self.generator.config.latent_size)
            steps = torch.full((len(indices),), t, dtype=torch.int64, device=device)
            out: Tensor = self.generator(torch.cat([x_t, source], dim=1), steps, z)
            return out[:, :1].float()

        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            x_T = noise.normal(*stack.shape[1:])
            return to_array(sample(denoise, x_T, self.schedule, noise, stop_after=options.steps))


def build(
    header: Mapping[str, Any], generator: NCSNpp, identity: Identity, *, shared_noise: bool | None = None
) -> SynDiff:
    """Make the method from a package's header and its filled network.

    Raises ModelError where the header lacks something.
    """
    try:
        return SynDiff(
            generator,
            Schedule(**header["schedule"]),
            Recipe.from_json(header["recipe"]),
            parse_modality(header["source"]),
            parse_modality(header["target"]),
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
) -> dict[str, Any]:
    """Return the package header that `build` reads; `about` holds id, version, title, licence, citation, scope."""
    return {
        "method": NAME,
        "network": asdict(config),
        "schedule": schedule.to_json(),
        "recipe": recipe.to_json(),
        "source": str(source),
        "target": str(target),
        "output_scale": output_scale,
        "shared_noise": shared_noise,
        "about": dict(about),
    }
