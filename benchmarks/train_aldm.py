"""Train the small ALDM in one command: some hours on a CPU, or on a GPU in the time that is given.

One model between T1, contrast-enhanced T1, T2 and FLAIR, at 1 mm. A run that was stopped goes on where it was.

Examples:
    python benchmarks/train_aldm.py --data ../shared/data/open_ms --output runs/aldm --precision bf16-mixed
    python benchmarks/train_aldm.py --data DATA --output OUT --accelerator cuda --precision bf16-mixed --scale 8
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from imputer.train.aldm_config import STAGES, AldmConfig
from imputer.train.aldm_start import start

HELD_OUT = ("patient04", "patient26")
DATA = (
    "MR images of multiple sclerosis patients, Laboratory of Imaging Technologies, University of Ljubljana "
    "(Lesjak et al., CC-BY)"
)
SMALL: dict[str, Any] = {
    "title": "Brain MRI, T1, T1ce, T2 and FLAIR from any one of them, whole volumes (ALDM, small)",
    "licence": "CC-BY-4.0",
    "trained_on": DATA,
    "width": 16,
    "channel_multipliers": (1, 2),
    "groups": 8,
    "codebook_size": 4096,
    "spade_widths": (32, 32, 32),
    "spade_hidden": 16,
    "unet_width": 32,
    "unet_multipliers": (1, 2, 2),
    "attention_factors": (4,),
    "unet_groups": 8,
    "patch": 48,
    "latent_crop": 32,
    "variants": 1,
    "flip": 0.3,
    "codebook_after": 0.3,
    "structure_weight": 0.1,
    "latent_beta": 0.5,
    "cycle_weight": 0.0,
    "rollout": 0.7,
    "autoencoder_rate": 1e-3,
    "spade_rate": 1e-3,
    "diffusion_rate": 4e-4,
    "projector_rate": 4e-4,
}
STEPS = {"autoencoder": 3200, "spade": 9000, "diffusion": 4000, "projector": 3000}
# The projector learns by L1 alone first: a discriminator of its first estimates learns nothing that lasts.
ADVERSARIAL: dict[str, Any] = {"adversarial_weight": 0.02, "projector_rate": 2e-4, "discriminator_rate": 2e-4}
ADVERSARIAL_STEPS = 900


def main() -> None:
    """Train all stages and print the path of the model."""
    options = _arguments()
    plain = AldmConfig(
        data_dir=str(options.data), output=str(options.output / "plain"), register=True, holdout=HELD_OUT,
        accelerator=options.accelerator, precision=options.precision, batch_size=options.batch_size,
        adversarial_weight=0.0, **SMALL,
        **{f"{stage}_steps": round(STEPS[stage] * options.scale) for stage in STAGES},
    )  # fmt: skip
    model = _trained(plain)
    print(_trained(replace(
        plain, output=str(options.output / "adversarial"), initial=str(model), stages=("projector",),
        projector_steps=round(ADVERSARIAL_STEPS * options.scale), **ADVERSARIAL,
    )))  # fmt: skip


def _trained(config: AldmConfig) -> Path:
    """Train a run, or what is left of it."""
    return start(config, resume=(Path(config.output) / "config.toml").exists(), on_message=print)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
