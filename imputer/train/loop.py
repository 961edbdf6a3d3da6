"""The training loop: step, log, checkpoint, resume, score; knows no method."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from imputer.errors import InputError, OutputError
from imputer.files import TEMPORARY, make_folder, replacing
from imputer.train.config import LoopSettings

LAST = "last.ckpt"


class Trainer(Protocol):
    """What the loop drives; one per method."""

    is_main: bool

    def step(self, number: int) -> dict[str, float]:
        """Train one step and return its losses."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that a resume needs; tensors and plain values only."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        ...

    def validate(self, number: int) -> dict[str, float]:
        """Score held-out cases and write pictures."""
        ...

    def export(self) -> list[Path]:
        """Write the model packages of the averaged weights."""
        ...


def silent(message: str) -> None:
    """Say nothing."""


class RunLog:
    """Appends one JSON object a line to log.jsonl, and scalars to TensorBoard where that is installed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, number: int, values: Mapping[str, float]) -> None:
        """Record the values of a step."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": number, "time": round(time.time(), 1), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, number)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._board is not None:
            self._board.close()


def run(
    trainer: Trainer,
    config: LoopSettings,
    folder: Path,
    *,
    resume: bool,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> list[Path]:
    """Train to `config.steps`, checkpointing on the way, and return the exported model packages.

    A step depends on the weights and its number alone, so a run that was killed and resumed from its last checkpoint
    ends with the same weights as an uninterrupted one.
    """
    first = _restore(trainer, folder / LAST) if resume else 0
    log = RunLog(folder) if trainer.is_main else None
    for number in range(first, config.steps):
        losses = trainer.step(number)
        done = number + 1
        if done % config.log_every == 0 and log is not None:
            log.write(done, losses)
        if on_step is not None:
            on_step(done, losses)
        if config.validate_every and done % config.validate_every == 0 and done < config.steps and log is not None:
            log.write(done, trainer.validate(done))
        if done % config.checkpoint_every == 0 or done == config.steps:
            save_checkpoint(trainer, folder / LAST, done)
    if log is None:
        return []
    log.write(config.steps, trainer.validate(config.steps))
    log.close()
    return trainer.export()


def save_checkpoint(trainer: Trainer, path: Path, number: int) -> None:
    """Write the trainer's state after `number` steps, atomically."""
    state = {"step": number, "trainer": trainer.state()}
    if not trainer.is_main:
        return
    with replacing(path, overwrite=True) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's own writer has no other word for a disk that takes no more
            raise OSError(errno.EIO, "the checkpoint could not be written; the disk may be full") from error


def _restore(trainer: Trainer, path: Path) -> int:
    """Load a checkpoint and return the number of steps done; 0 where there is none yet."""
    if not path.exists():
        return 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes the unpickler raise is open-ended
        raise InputError(f"Checkpoint {path.name} is not readable.", remedy="Train into a new folder.") from error
    try:
        trainer.load_state(content["trainer"])
        return int(content["step"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"Checkpoint {path.name} does not fit this run.", remedy="Train into a new folder.") from error


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make the run's folder; OutputError where it holds a run already and this is no resume."""
    if (folder / LAST).exists() and not resume:
        raise OutputError(
            f"Folder {folder.name} already holds a training run.", remedy="Add --resume or choose another."
        )
    make_folder(folder)
    for left in folder.glob(f"{TEMPORARY}*"):  # of a run that was killed while it wrote
        left.unlink(missing_ok=True)
