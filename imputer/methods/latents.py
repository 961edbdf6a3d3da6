"""A volume, or a tile of it, through ALDM: encoded, made target-like, sampled, decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.diffusion.adversarial import sample
from imputer.diffusion.ddim import LinearSchedule, sample_ddim
from imputer.diffusion.noise import SliceNoise, WindowNoise
from imputer.diffusion.schedule import Schedule
from imputer.methods.base import PRECISIONS, RunOptions, Sampling, to_array
from imputer.methods.tiles import Shape, Tile
from imputer.nets.aldm import ALDM, AutoencoderModel

PROJECTOR, DDIM, NONE = "projector", "ddim", "none"  # samplers; none: the target-like latent as it is (ablation c)
RELEASED_STEPS, RELEASED_ETA = 200, 1.0  # of DDIM
# Units of work: seconds of the released networks on a CPU in those of one step, rounded.
ENCODING, TRANSLATION, DECODING = 5, 1, 9


@dataclass(frozen=True)
class Work:
    """One run: its source (1, 1, I, J, K), and what is made of it how."""

    stack: NDArray[np.float32]
    options: RunOptions
    sampling: Sampling
    class_index: int

    @cached_property
    def digest(self) -> str:
        """What tells the source from others."""
        digest = hashlib.sha256(repr(self.stack.shape).encode())
        digest.update(np.ascontiguousarray(self.stack).data)
        return digest.hexdigest()


class Pipeline:
    """The stages of a network, one after the other; the latents of the last source are kept for its next target.

    Parameters
    ----------
    network : on its device.
    schedule, projector_schedule : of the DDIM sampler and of the projector.
    latent_limit : greatest magnitude of a latent of a target, beyond which it is cut; None: any. MS-SPADE multiplies a
        tensor by what it computes from it: where a source shows what training had not, a few voxels may grow a
        thousandfold, and the decoder's norms, which are taken over the whole volume, then grey out all of it.
    """

    def __init__(
        self,
        network: AutoencoderModel,
        schedule: LinearSchedule,
        projector_schedule: Schedule,
        latent_limit: float | None = None,
    ) -> None:
        self.network = network
        self.latent_limit = latent_limit
        self.schedule = schedule
        self.projector_schedule = projector_schedule
        self._kept_of: tuple[str, ...] = ()
        self._kept: dict[Tile, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        device: torch.device = next(self.network.parameters()).device
        return device

    def piece(self, tile: Tile, shape: Shape, work: Work, done: Callable[[int], None]) -> NDArray[np.float32]:
        """Take a tile of the source through all stages: its voxels of the target, (I, J, K)."""
        device, options, dtype = self.device, work.options, PRECISIONS[work.options.precision]
        factor = self.network.first_stage.config.factor
        noise = WindowNoise(
            SliceNoise(options.seed, options.case, [0], device=device),
            [size // factor for size in shape],
            tile.window(factor),
        )
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            z_source = self._encoded(tile, work)
            done(ENCODING)
            z_like = self._held(self.network.to_target(z_source, work.class_index).float())
            done(TRANSLATION)
            latent = self._held(self._sampled(z_source, z_like, work, noise, done))
            volume = self.network.decode(latent)
            done(DECODING)
        voxels: NDArray[np.float32] = to_array(volume)[0, 0]
        return voxels

    def _held(self, latent: Tensor) -> Tensor:
        return latent if self.latent_limit is None else latent.clamp(-self.latent_limit, self.latent_limit)

    def _encoded(self, tile: Tile, work: Work) -> Tensor:
        """Return the latent of a tile of the source (1, C, i, j, k), from the last run where it had the same source."""
        key = (work.digest, work.options.precision, str(self.device))
        if self._kept_of != key:
            self._kept_of, self._kept = key, {}
        if tile not in self._kept:
            voxels = torch.from_numpy(np.ascontiguousarray(work.stack[(0, 0, *tile.window())])[None, None])
            first = self.network.first_stage
            features = first.features(voxels.to(self.device)).float()
            if not torch.isfinite(features).all():  # the codebook would hide it
                raise OverflowError("the encoder's numbers overflow")
            with torch.autocast(self.device.type, enabled=False):  # the nearest entry of the codebook, to the last bit
                self._kept[tile] = first.quantize(features)
        return self._kept[tile]

    def _sampled(
        self, z_source: Tensor, z_like: Tensor, work: Work, noise: WindowNoise, done: Callable[[int], None]
    ) -> Tensor:
        """Sample the target's latent (1, C, i, j, k), float32."""
        sampling = work.sampling
        if sampling.name == NONE:
            return z_like
        network = self.network
        assert isinstance(network, ALDM)
        predict = network.project if sampling.name == PROJECTOR else network.denoise

        def predicted(x_t: Tensor, t: int) -> Tensor:
            return predict(x_t, z_source, z_like, t, work.class_index).float()

        def step(t: int) -> None:
            done(1)

        z_T = noise.normal(*z_source.shape[1:])
        if sampling.name == PROJECTOR:
            return sample(
                lambda x_t, t: self._held(predicted(x_t, t)),
                z_T,
                self.projector_schedule,
                noise,
                step,
                stop_after=sampling.steps,
            )
        eta = RELEASED_ETA if sampling.eta is None else sampling.eta
        return sample_ddim(predicted, z_T, self.schedule, noise, steps=sampling.steps, eta=eta, on_step=step)
