"""What methods that work slice by slice share: batches, empty slices, noise, precision, too little memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.diffusion.adversarial import Denoiser, sample
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.errors import UsageError
from imputer.methods.base import (
    PRECISIONS,
    Identity,
    RunOptions,
    Sampling,
    check_style,
    to_array,
    to_tensor,
)
from imputer.methods.batches import BatchSize
from imputer.methods.graphs import Forward, Replayed
from imputer.modality import Modality
from imputer.nets.disdiff import HEAD_ABOVE
from imputer.nets.ncsnpp import NCSNpp
from imputer.preprocess.recipe import Recipe

BACKGROUND = -1.0
HEAD_SHARE = 0.02  # of a slice's pixels
# Makes, of source slices (B, N, H, W) on the device and their noise, what estimates x_0 of the target's slices.
Begin = Callable[[Tensor, SliceNoise], Denoiser]


class SliceMethod(ABC):
    """A model that makes each slice of the target from the same slice of the source, by adversarial diffusion.

    Parameters
    ----------
    network : on its device.
    schedule : of the reverse diffusion.
    recipe : how a source volume becomes slices.
    sources, targets : modalities.
    output_scale : intensity of the written volume where the network says 1.
    identity : who the model is.
    shared_noise : whether all slices of a volume share their noise by default.
    """

    takes_style = False
    joint = False
    required: tuple[Modality, ...] = ()

    def __init__(
        self,
        network: torch.nn.Module,
        schedule: Schedule,
        recipe: Recipe,
        sources: tuple[Modality, ...],
        targets: tuple[Modality, ...],
        *,
        output_scale: float,
        identity: Identity,
        shared_noise: bool,
    ) -> None:
        network.eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network
        self.schedule = schedule
        self.recipe = recipe
        self.sources = sources
        self.targets = targets
        self.output_scale = output_scale
        self.identity = identity
        self.shared_noise = shared_noise
        self._ready: dict[tuple[NCSNpp, torch.dtype], Forward] = {}

    @property
    def steps(self) -> int:
        """Reverse steps that the model was trained for."""
        return self.schedule.steps

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        device: torch.device = next(self._network.parameters()).device
        return device

    def sampling(self, options: RunOptions) -> Sampling:
        """Say in how many steps a run with these options samples; UsageError for what the model has not."""
        if options.sampler is not None or options.eta is not None:
            raise UsageError(
                f"Model {self.identity.id} has one sampler and no eta.", remedy="Leave --sampler and --eta out."
            )
        if options.steps is not None and not 1 <= options.steps <= self.steps:
            raise UsageError(f"Model {self.identity.id} runs 1 to {self.steps} steps, not {options.steps}.")
        if options.style is not None:
            check_style(self)
        return Sampling(options.steps or self.steps)

    def units(self, stack: NDArray[np.float32], options: RunOptions) -> int:
        """Return the number of slices: what `run` reports as it goes."""
        self.sampling(options)
        return len(stack)

    def run(
        self, stack: NDArray[np.float32], options: RunOptions, on_units: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Synthesise the target, (S, 1, H, W), of slices (S, N, H, W) of the N sources; both in [-1, 1].

        Slices that are all background are written as background without running the network. The noise of a slice
        depends on (seed, case, slice index) alone, so neither that nor the batch size changes the other slices.
        Out of memory halves the batch; DeviceError when one slice does not fit. `on_units` is told the slices done.
        """
        self.sampling(options)
        result = np.full_like(stack[:, :1], BACKGROUND)
        pending = filled_slices(stack)
        if on_units is not None:
            on_units(len(stack) - len(pending))
        size = BatchSize(self.device, options.batch_size)
        begin = self._begin(options)
        while pending:
            batch = pending[: size.now]
            try:
                with size.running(len(batch)):
                    result[batch] = self._run_batch(begin, stack, batch, options)
            except torch.OutOfMemoryError as error:
                size.halve(error)
                continue
            pending = pending[len(batch) :]
            if on_units is not None:
                on_units(len(batch))
        return result

    def _run_batch(
        self, begin: Begin, stack: NDArray[np.float32], indices: list[int], options: RunOptions
    ) -> NDArray[np.float32]:
        device = self.device
        shared = self.shared_noise if options.shared_noise is None else options.shared_noise
        noise = SliceNoise(options.seed, options.case, indices, shared=shared, device=device)
        source = to_tensor(stack[indices], device)
        with torch.inference_mode():
            x_T = noise.normal(1, *stack.shape[2:])
            return to_array(sample(begin(source, noise), x_T, self.schedule, noise, stop_after=options.steps))

    def _ready_to_run(self, generator: NCSNpp, options: RunOptions) -> Forward:
        """Return a generator of the network in the precision of a run, on CUDA replayed; kept for the next run."""
        dtype = PRECISIONS[options.precision]
        if (generator, dtype) not in self._ready:
            network = generator if dtype == torch.float32 else generator.in_dtype(dtype)
            self._ready[generator, dtype] = Replayed(network) if self.device.type == "cuda" else network
        return self._ready[generator, dtype]

    @abstractmethod
    def _begin(self, options: RunOptions) -> Begin:
        """Do what is done once a run, and return what makes a denoiser of each batch."""


def shares_of(source: Tensor) -> Tensor:
    """Return how much each source counts in a mean over those that a slice shows: 1 over their number, or 0; (B, N).

    `source` is (B, N, H, W), -1 throughout where a slice has nothing of a source.
    """
    shown = (source > BACKGROUND).flatten(2).any(dim=2)
    return shown.float() / shown.sum(dim=1, keepdim=True).clamp(min=1)


def filled_slices(stack: NDArray[np.float32]) -> list[int]:
    """Return the indices of the slices of a stack (S, C, H, W) that are not all background."""
    return [int(k) for k in np.flatnonzero((stack > BACKGROUND).any(axis=(1, 2, 3)))]


def slices_with_head(stack: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which slices (S, C, H, W) show a head in any channel: over 2 % of the pixels clearly above the background.

    The air of a raw scan is not all background.
    """
    share: NDArray[np.float64] = (stack > HEAD_ABOVE).any(axis=1).mean(axis=(1, 2))
    return share > HEAD_SHARE
