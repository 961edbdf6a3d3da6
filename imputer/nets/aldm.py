"""ALDM as one network: first stage with MS-SPADE, latent UNet and few-step projector, as far as they are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imputer.nets.latent_unet3d import LatentUNet, LatentUNetConfig
from imputer.nets.vqgan3d import FirstStage, FirstStageConfig

SMALLEST_UNET_FACTOR = 4  # of the released UNet; a first stage alone takes the same sizes, so that a UNet may follow


class AutoencoderModel(nn.Module):
    """A first stage alone: what the authors released.

    Parameters
    ----------
    first_stage : shape of the autoencoder and MS-SPADE.
    """

    def __init__(self, first_stage: FirstStageConfig) -> None:
        super().__init__()
        self.first_stage = FirstStage(first_stage)

    @property
    def size_multiple(self) -> int:
        """Sizes of volumes are multiples of this: 16 in the released configuration."""
        return self.first_stage.config.factor * SMALLEST_UNET_FACTOR

    def encode(self, x: Tensor) -> Tensor:
        """Encode volumes x (B, 1, I, J, K) in [-1, 1] to quantised latents (B, C, I/4, J/4, K/4)."""
        return self.first_stage.encode(x)

    def to_target(self, z: Tensor, class_index: int | Tensor) -> Tensor:
        """Return the target-like latents of z for a class, or for each volume's class (B,)."""
        return self.first_stage.to_target(z, class_index)

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents z to volumes (B, 1, 4I, 4J, 4K), around [-1, 1] and not clamped."""
        return self.first_stage.decode(z)


class ALDM(AutoencoderModel):
    """First stage, the UNet that predicts the noise, and, in models trained here, the few-step projector.

    Parameters
    ----------
    first_stage, unet : their shapes.
    projector : shape of the UNet that estimates the clean latent in a few steps; None: there is none.
    """

    def __init__(
        self, first_stage: FirstStageConfig, unet: LatentUNetConfig, projector: LatentUNetConfig | None = None
    ) -> None:
        super().__init__(first_stage)
        self.unet = LatentUNet(unet)
        self.projector = None if projector is None else LatentUNet(projector)

    @property
    def size_multiple(self) -> int:
        """Sizes of volumes are multiples of this: 16 in the released configuration."""
        factors = [each.config.factor for each in (self.unet, self.projector) if each is not None]
        return self.first_stage.config.factor * max(SMALLEST_UNET_FACTOR, *factors)

    def denoise(
        self, z_t: Tensor, z_source: Tensor, z_target_like: Tensor, t: int | Tensor, class_index: int | Tensor
    ) -> Tensor:
        """Predict the noise in z_t at time t, 0 to 999; latents are (B, C, I, J, K)."""
        out: Tensor = self.unet(unet_input(self.unet, z_t, z_source, z_target_like), t, class_index)
        return out

    def project(
        self, z_t: Tensor, z_source: Tensor, z_target_like: Tensor, t: int | Tensor, class_index: int | Tensor
    ) -> Tensor:
        """Estimate the clean latent z_0 from z_t at the step index t, 0 to 3. ValueError without a projector.

        The network gives what the target-like latent lacks, so that a fresh one begins with MS-SPADE's result.
        """
        if self.projector is None:
            raise ValueError("this model has no projector")
        out: Tensor = self.projector(unet_input(self.projector, z_t, z_source, z_target_like), t, class_index)
        return z_target_like + out


def unet_input(network: LatentUNet, z_t: Tensor, z_source: Tensor, z_target_like: Tensor) -> Tensor:
    """Return what a UNet takes: noisy, source's and target-like latent; in the paper's variant not the source's."""
    if network.config.inputs == 2 * z_t.shape[1]:
        return torch.cat([z_t, z_target_like], dim=1)
    return torch.cat([z_t, z_source, z_target_like], dim=1)


def make_aldm(
    first_stage: FirstStageConfig, unet: LatentUNetConfig | None = None, projector: LatentUNetConfig | None = None
) -> AutoencoderModel:
    """Make the model that has these parts; without a UNet it has no `denoise`.

    ValueError for a projector without a UNet.
    """
    if unet is not None:
        return ALDM(first_stage, unet, projector)
    if projector is not None:
        raise ValueError("a projector comes with the UNet that it was made from")
    return AutoencoderModel(first_stage)
