"""Train the four embedded models in one command: on a CPU overnight, or on a GPU in the time that is given.

Each direction is trained on pairs, first with the pixel loss, then also with the structural loss, those between T1 and
T2 also with a patch discriminator; the FLAIR models start from a model of the same source. (The time-conditional
discriminator of the paper learns too slowly for some thousand steps on a CPU; with a GPU and many more steps try
`--set adversarial_weight=0.02`.) A run that was stopped goes on where it was. With --ship the models are copied into
the package and the manifest is refreshed.

Examples:
    python benchmarks/train_embedded.py --data ../shared/data/open_ms --output runs/embedded
    python benchmarks/train_embedded.py --data DATA --output OUT --accelerator cuda --scale 4 --batch-size 8 --ship
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imputer.nets.checkpoint import read_header, read_tensors, write_package
from imputer.train.config import TrainConfig
from imputer.train.start import start

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ("patient04", "patient26")
NETWORK: dict[str, Any] = {
    "pixel_mm": 0.9,
    "crop": (224, 192),
    "width": 16,
    "channel_multipliers": (1, 2, 4, 4, 4),
    "blocks_per_level": 1,
    "attention_levels": (4,),
    "latent_size": 32,
    "latent_width": 64,
    "discriminator_width": 16,
}
PIXEL: dict[str, Any] = {"pixel_weight": 1.0, "adversarial_weight": 0.0, "generator_rate": 6e-4}
STRUCTURE: dict[str, Any] = {**PIXEL, "structure_weight": 0.15}
PATCH: dict[str, Any] = {
    **STRUCTURE,
    "patch_weight": 0.02,
    "adversarial_crop": 96,
    "generator_rate": 3e-4,
    "discriminator_rate": 2e-4,
    "warmup": 50,
}
LONG: dict[str, Any] = {**PIXEL, "structure_weight": 0.3, "generator_rate": 5e-4, "ema": 0.999}
# x_t always from the network's own chain, as in use; thick slices count as much as the thin ones of one volume.
OWN_CHAIN: dict[str, Any] = {**LONG, "rollout": 1.0, "balance": True}
OWN_CHAIN_WEAK: dict[str, Any] = {**OWN_CHAIN, "generator_rate": 3e-4, "intensity_strength": "weak"}
BOTH_GRIDS: dict[str, Any] = {**OWN_CHAIN_WEAK, "structure_weight": 0.6, "generator_rate": 2e-4, "both_grids": True}
TILTED: dict[str, Any] = {**BOTH_GRIDS, "generator_rate": 4e-4, "tilted_grids": 4}
OWN_CHAIN_PATCH: dict[str, Any] = {
    **OWN_CHAIN,
    "patch_weight": 0.01,
    "adversarial_crop": 96,
    "generator_rate": 4e-4,
    "discriminator_rate": 2e-4,
}


@dataclass(frozen=True)
class Stage:
    """One training run.

    `initial` names the stage whose model it starts from. What it hands on lies between that model and its own, by
    `share`: a straight line between a network and its fine-tuned self trades distortion for sharpness (Wang et al.,
    ESRGAN, 2018).
    """

    name: str
    source: str
    target: str
    steps: int
    settings: dict[str, Any]
    initial: str = ""
    share: float = 1.0


STAGES = (
    Stage("t1-t2-pixel", "t1", "t2", 3400, PIXEL),
    Stage("t2-t1-pixel", "t2", "t1", 3400, PIXEL),
    Stage("t1-t2-patch", "t1", "t2", 1300, PATCH, "t1-t2-pixel", share=0.7),
    Stage("t1-t2", "t1", "t2", 4000, OWN_CHAIN_PATCH, "t1-t2-patch"),
    Stage("t2-t1", "t2", "t1", 1300, PATCH, "t2-t1-pixel", share=0.7),
    Stage("t1-flair-structure", "t1", "flair", 2250, STRUCTURE, "t1-t2-pixel"),
    Stage("t1-flair-long", "t1", "flair", 3750, LONG, "t1-flair-structure"),
    Stage("t1-flair-chain", "t1", "flair", 10000, OWN_CHAIN, "t1-flair-long"),
    Stage("t1-flair-weak", "t1", "flair", 4000, OWN_CHAIN_WEAK, "t1-flair-chain"),
    Stage("t1-flair-grids", "t1", "flair", 2400, BOTH_GRIDS, "t1-flair-weak"),
    Stage("t1-flair", "t1", "flair", 3500, TILTED, "t1-flair-grids"),
    Stage("t2-flair-structure", "t2", "flair", 2250, STRUCTURE, "t2-t1-pixel"),
    Stage("t2-flair-long", "t2", "flair", 3750, LONG, "t2-flair-structure"),
    Stage("t2-flair-chain", "t2", "flair", 6000, OWN_CHAIN, "t2-flair-long"),
    Stage("t2-flair", "t2", "flair", 3000, TILTED, "t2-flair-chain"),
)
SHIPPED = ("t1-t2", "t2-t1", "t1-flair", "t2-flair")


def main() -> None:
    """Train all stages, then ship their models if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NIfTI volumes, names tell the contrast")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
    parser.add_argument("--only", nargs="*", help="names of stages")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="overrides a setting")
    parser.add_argument("--ship", action="store_true")
    options = parser.parse_args()
    for stage in STAGES:
        if not options.only or stage.name in options.only:
            print(f"== {stage.name}", flush=True)
            start(_config(stage, options), resume=True, on_message=print, on_step=_say)
    if options.ship:
        _ship(options.output)


def _config(stage: Stage, options: argparse.Namespace) -> TrainConfig:
    initial = str(_model(options.output, stage.initial)) if stage.initial else ""
    overrides = {name: float(value) for name, value in (text.split("=") for text in options.set)}
    settings: dict[str, Any] = {
        **NETWORK,
        "rollout": 0.5,
        "ema": 0.998,
        "warmup": 100,
        "validation_slices": 8,
        **stage.settings,
        **overrides,
    }
    return TrainConfig(
        source_dir=str(options.data),
        target_dir=str(options.data),
        output=str(options.output / stage.name),
        source=stage.source,
        target=stage.target,
        paired=True,
        register=True,
        direction="forward",
        holdout=HELD_OUT,
        initial=initial,
        steps=round(stage.steps * options.scale),
        batch_size=options.batch_size,
        accelerator=options.accelerator,
        precision=options.precision,
        title=f"Brain MRI, {stage.source.upper()} to {stage.target.upper()}, axial slices (SynDiff, small)",
        licence="CC-BY-4.0",
        trained_on="Brain MRI of MS patients, Laboratory of Imaging Technologies, University of Ljubljana (CC-BY)",
        **settings,
    )


def _model(output: Path, name: str) -> Path:
    """The model that a stage hands on: its own, or what lies between its first and its last weights."""
    stage = next(each for each in STAGES if each.name == name)
    path = output / name / "models" / f"syndiff-{stage.source}-{stage.target}.safetensors"
    if stage.share == 1.0:
        return path
    blended = path.with_name(f"blended-{path.name}")
    if not blended.exists():
        first, last = read_tensors(_model(output, stage.initial)), read_tensors(path)
        tensors = {key: torch.lerp(first[key], value, stage.share).half() for key, value in last.items()}
        write_package(blended, tensors, _header(path))
    return blended


def _header(path: Path) -> dict[str, Any]:
    return {key: value for key, value in read_header(path).items() if key != "format"}


def _say(done: int, losses: dict[str, float]) -> None:
    if done % 100 == 0:
        print(done, {name: round(value, 4) for name, value in losses.items()}, flush=True)


def _ship(output: Path) -> None:
    for name in SHIPPED:
        path = _model(output, name)
        target = ROOT / "imputer" / "assets" / path.name.removeprefix("blended-")
        half = {key: tensor.half() for key, tensor in read_tensors(path).items()}
        write_package(target, half, _header(path), overwrite=True)
    subprocess.run([sys.executable, str(ROOT / "tools" / "refresh_manifest.py")], check=True)


if __name__ == "__main__":
    main()
