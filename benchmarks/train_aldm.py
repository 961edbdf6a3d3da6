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
SMALL: dict[str, Any] = {
    "width": 16,
    "channel_multipliers": (1, 2),
    "groups": 8,
    "codebook_size": 4096,
    "spade_widths": (16, 32, 16),
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
    "adversarial_weight": 0.02,
    "rollout": 0.7,
    "ema": 0.998,
    "autoencoder_rate": 1e-3,
    "spade_rate": 1e-3,
    "diffusion_rate": 4e-4,
    "projector_rate": 3e-4,
}
STEPS = {"autoencoder": 3200, "spade": 1500, "diffusion": 2500, "projector": 2000}


def main() -> None:
    """Train all stages and print the path of the model."""
    options = _arguments()
    config = AldmConfig(
        data_dir=str(options.data), output=str(options.output), register=True, holdout=HELD_OUT,
        accelerator=options.accelerator, precision=options.precision, batch_size=options.batch_size, **SMALL,
    )  # fmt: skip
    steps = {f"{stage}_steps": round(STEPS[stage] * options.scale) for stage in STAGES}
    print(start(replace(config, **steps), resume=(options.output / "config.toml").exists(), on_message=print))


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
