"""What every method offers, and the only crossing between numpy stacks and torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.errors import DeviceError, UsageError
from imputer.modality import Modality
from imputer.preprocess.recipe import Recipe

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Identity:
    """Who a model is: what the sidecar says of it.

    `scope` tells the inputs it was made for, `origin` where its file came from (embedded, hf://owner/repo@commit, ...).
    """

    id: str
    version: str = ""
    sha256: str = ""
    title: str = ""
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    origin: str = "memory"
    non_commercial: bool = False
    scope: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunOptions:
    """How to run a method on one case.

    Parameters
    ----------
    case : identifies the volume in the noise's seed.
    seed : the run's seed.
    steps : reverse steps; None: the model's own number.
    batch_size : slices at once on an accelerator; None: chosen by the method. A CPU takes one at a time.
    precision : fp32, bf16 or fp16.
    shared_noise : the same noise for all slices of the volume; None: the method's default.
    target : modality to make, one of the method's; None: the only one that it has.
    source : modality of the stack, one of the method's; None: the only one that it has, or it does not matter.
    sampler : of a method that has several: projector, ddim or none; None: the model's own.
    eta : noise of the DDIM sampler, 0 to 1; None: the model's own.
    style : slices (S, 1, H, W) in [-1, 1] of a reference scan of the target, whose attribute takes the place of the
        target's mean one; None: the mean one. Of a method that takes a style.
    remarks : filled by `run` with what only it finds out and the sidecar shall say, e.g. that it went in tiles.
    """

    case: str
    seed: int = 0
    steps: int | None = None
    batch_size: int | None = None
    precision: str = "fp32"
    shared_noise: bool | None = None
    target: Modality | None = None
    source: Modality | None = None
    sampler: str | None = None
    eta: float | None = None
    style: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    remarks: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Sampling:
    """How a method samples in a run.

    Parameters
    ----------
    steps : reverse steps, 0 where nothing is sampled.
    name : of the sampler; "" for a method that has only one.
    eta : noise of the DDIM sampler; None for others.
    """

    steps: int
    name: str = ""
    eta: float | None = None


class Method(Protocol):
    """A loaded model: what it makes of what, the recipe that feeds it, and `run`.

    Of a model that is not `joint` one of the `sources` goes in at a time. Of a joint one all that are there go in
    together, in the order of `sources`; those of `required` must be there, and at least one. `takes_style` tells
    whether a reference scan may say what the target shall look like; `check_style` refuses it.
    """

    sources: tuple[Modality, ...]
    targets: tuple[Modality, ...]
    joint: bool
    required: tuple[Modality, ...]
    recipe: Recipe
    identity: Identity
    output_scale: float

    @property
    def takes_style(self) -> bool:
        """Whether `RunOptions.style` may be given."""
        ...

    @property
    def steps(self) -> int:
        """Reverse steps that the model takes unless told otherwise."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        ...

    def sampling(self, options: RunOptions) -> Sampling:
        """Say how a run with these options samples; UsageError where the model cannot do what they ask for."""
        ...

    def units(self, stack: NDArray[np.float32], options: RunOptions) -> int:
        """Return the units of work that `run` reports in all; UsageError as `sampling`."""
        ...

    def run(
        self, stack: NDArray[np.float32], options: RunOptions, on_units: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Turn a source stack in [-1, 1] into one of the target, of the same shape and range.

        The stack is (S, 1, H, W) for a method that works by slices, (1, 1, I, J, K) for one that takes whole volumes.
        A joint method takes (S, N, H, W), a channel for each of its `sources`, -1 throughout where that is missing, and
        gives (S, 1, H, W).
        `on_units` is told the units of work done, each time some are.
        """
        ...


def check_style(method: Method) -> None:
    """Raise UsageError where a method takes no style."""
    if not method.takes_style:
        raise UsageError(
            f"Model {method.identity.id} has no attributes that a reference scan could replace.",
            remedy="Leave --style-from out, or name a model of DisDiff.",
        )


def fields_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a network's configuration from a header, where JSON has made lists of tuples."""
    return {key: tuple(item) if isinstance(item, list) else item for key, item in stored.items()}


def checked_scale(value: Any) -> float:
    """Return the output scale of a header; ValueError where it is no number that gives an image."""
    scale = float(value)
    if not 0 < scale < 1e9:
        raise ValueError("its output scale is not above 0")
    return scale


def choose_device(name: str) -> torch.device:
    """Resolve auto, cpu, cuda[:N], gpu[:N] or mps.

    Raises DeviceError where an explicit device is not there; auto takes CUDA, then MPS, then the CPU.
    """
    wanted = name.strip().lower().replace("gpu", "cuda")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise DeviceError(f"Device {name!r} is unknown.", remedy="Use auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"Device {name!r} is not available on this machine.", remedy="Use --device cpu or auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("Device 'mps' is not available on this machine.", remedy="Use --device cpu or auto.")
    return torch.device(wanted)


def cpu_threads() -> int:
    """Threads that torch computes with on a CPU: those of OMP_NUM_THREADS, else one per core."""
    return torch.get_num_threads()


def use_cpu_threads(count: int) -> None:
    """Compute with so many threads. The last bits of a result on a CPU depend on it."""
    torch.set_num_threads(count)


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve auto, fp32, bf16 or fp16 for a device; auto is fp16 on CUDA (nearer to fp32 than bf16), else fp32.

    Raises DeviceError for fp16 on a CPU, where it is neither fast nor accurate.
    """
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise DeviceError(f"Precision {name!r} is unknown.", remedy="Use auto, fp32, bf16 or fp16.")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("Precision fp16 does not work on a CPU.", remedy="Use fp32 or bf16.")
    return name


def to_tensor(stack: NDArray[np.float32], device: torch.device) -> Tensor:
    """Move slices (S, 1, H, W) to the device, float32, channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(stack))
    return tensor.to(device=device, memory_format=torch.channels_last)


def to_array(tensor: Tensor) -> NDArray[np.float32]:
    """Bring slices (S, 1, H, W) back as float32."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().contiguous().numpy()
    return array
