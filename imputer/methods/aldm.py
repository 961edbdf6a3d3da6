"""ALDM inference: the whole volume -> latent -> target-like latent -> sampled latent -> the target's volume.

Kim & Park, Adaptive latent diffusion model for 3D medical image to image translation, WACV 2024. One model makes every
target from every source; the 4-step sampler on the latent (the projector) is SynDiff's, which their paper has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imputer.diffusion.ddim import LinearSchedule
from imputer.diffusion.schedule import Schedule
from imputer.errors import DeviceError, ModelError, UsageError, is_out_of_memory
from imputer.methods.base import Identity, RunOptions, Sampling, check_style, checked_scale, fields_of
from imputer.methods.latents import (
    DDIM,
    DECODING,
    ENCODING,
    NONE,
    PROJECTOR,
    RELEASED_ETA,
    RELEASED_STEPS,
    TRANSLATION,
    Pipeline,
    Work,
)
from imputer.methods.memory import free_bytes, peak_bytes
from imputer.methods.tiles import Layout, Meter, Shape, layouts
from imputer.modality import Modality, parse_modality
from imputer.nets.aldm import ALDM, AutoencoderModel, make_aldm
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.preprocess.box3d import Box3d
from imputer.preprocess.recipe import Recipe
from imputer.preprocess.whole import Whole

NAME = "aldm"
CITATION = "Kim & Park, Adaptive latent diffusion model for 3D medical image to image translation, WACV 2024"
TELLING_STEPS = (2, 4, 8, 10, 20, 50, 100, 200, 500)  # of the possible ones, those that a message names


class Aldm:
    """An ALDM ready to run.

    Parameters
    ----------
    network : on its device.
    recipe : how a source volume becomes one block of voxels; ends with `Whole`.
    sources : modalities that it starts from, one at a time.
    targets : modalities that it makes, in the order of the network's classes.
    default : how it samples unless told otherwise.
    schedule, projector_schedule : of the DDIM sampler and of the projector.
    output_scale : intensity of the written volume where the network says 1.
    identity : who the model is.
    latent_limit : see `Pipeline`.
    memory : bytes that a run may take; None: told by the device.
    """

    takes_style = False

    def __init__(
        self,
        network: AutoencoderModel,
        recipe: Recipe,
        sources: Sequence[Modality],
        targets: Sequence[Modality],
        *,
        default: Sampling,
        schedule: LinearSchedule,
        projector_schedule: Schedule,
        output_scale: float,
        identity: Identity,
        latent_limit: float | None = None,
        memory: int | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        for part in (network.first_stage.encoder, network.first_stage.decoder):  # spares convolutions a copy each
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.recipe = recipe
        self.sources = tuple(sources)
        self.joint = False
        self.required: tuple[Modality, ...] = ()
        self.targets = tuple(targets)
        self.default = default
        self.schedule = schedule
        self.projector_schedule = projector_schedule
        self.output_scale = output_scale
        self.identity = identity
        self.memory = memory
        self._pipeline = Pipeline(network, schedule, projector_schedule, latent_limit)

    @property
    def steps(self) -> int:
        """Reverse steps that the model takes unless told otherwise."""
        return self.default.steps

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self._pipeline.device

    def sampling(self, options: RunOptions) -> Sampling:
        """Say how a run with these options samples; UsageError where the model cannot do what they ask for."""
        possible = samplers_of(self.network)
        name = options.sampler or self.default.name
        if name not in possible:
            raise UsageError(
                f"Model {self.identity.id} has no sampler {name!r}.", remedy=f"It has: {', '.join(possible)}."
            )
        if options.style is not None:
            check_style(self)
        if options.eta is not None and (name != DDIM or not 0 <= options.eta <= 1):
            raise UsageError("eta is a number within 0 to 1, of the sampler ddim alone.")
        steps = self._usual_steps(name) if options.steps is None else options.steps
        if (problem := self._problem_of_steps(name, steps)) is not None:
            remedy = "--fast asks for 1 step." if steps == 1 else ""
            raise UsageError(f"Model {self.identity.id} {problem}, not {steps}.", remedy=remedy)
        usual = RELEASED_ETA if self.default.eta is None else self.default.eta
        return Sampling(steps, name, (usual if options.eta is None else options.eta) if name == DDIM else None)

    def _usual_steps(self, name: str) -> int:
        if name == self.default.name:
            return self.default.steps
        if name == PROJECTOR:
            return self.projector_schedule.steps
        return 0 if name == NONE else max((n for n in self.schedule.possible_steps() if n <= RELEASED_STEPS), default=0)

    def _problem_of_steps(self, name: str, steps: int) -> str | None:
        """Say what a sampler can do where it cannot do so many steps."""
        if name == PROJECTOR:
            most = self.projector_schedule.steps
            return None if 1 <= steps <= most else f"runs 1 to {most} steps of its projector"
        if name == NONE:
            return None if steps == 0 else "takes no steps without a sampler (leave --steps out)"
        possible = self.schedule.possible_steps()
        some = ", ".join(str(each) for each in possible if each in TELLING_STEPS) or str(possible)
        says = f"runs DDIM in 2 to {possible[-1]} steps that divide {self.schedule.times}, such as {some}"
        return None if steps in possible else says

    def units(self, stack: NDArray[np.float32], options: RunOptions) -> int:
        """Return the units of work that `run` reports in all: about equally long, the steps of a sampler one each."""
        return ENCODING + TRANSLATION + self.sampling(options).steps + DECODING

    def run(
        self, stack: NDArray[np.float32], options: RunOptions, on_units: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Make the target of a source volume (1, 1, I, J, K) in about [-1, 1]; same shape, in [-1, 1].

        The sizes are multiples of the network's `size_multiple`. The noise depends on (seed, case) alone. A volume that
        memory does not hold goes in overlapping tiles that are blended; `options.remarks` tells so. The latents of the
        last source are kept: its next target or sample is made without the encoder. DeviceError where not even the
        smallest tile fits, or float16 overflows. `on_units` is told the units of work done.
        """
        work = Work(stack, options, self.sampling(options), self._class_of(options.target))
        shape, multiple = _grid(stack), self.network.size_multiple
        if any(size % multiple for size in shape):
            raise ModelError(f"The recipe of {self.identity.id} gives sizes that are no multiples of {multiple}.")
        meter = Meter(self.units(stack, options), on_units)
        room = free_bytes(self.device) if self.memory is None else self.memory
        ways = list(layouts(shape, multiple))
        fitting = [way for way in ways if self._peak(way.size, options.precision) <= room]
        for way in fitting or ways[-1:]:
            result = self._tried(way, work, meter)
            if result is not None:
                return result
        size = " x ".join(str(size) for size in ways[-1].size)
        on_cpu = self.device.type == "cpu"
        remedy = "Close other programs, or use a machine with more." if on_cpu else "Use --device cpu."
        raise DeviceError(f"Not even {size} voxels at once fit into the device's memory.", remedy=remedy)

    def _peak(self, shape: Sequence[int], precision: str) -> int:
        return peak_bytes(self.network, shape, precision, self.device)

    @staticmethod
    def _overflow(precision: str) -> DeviceError:
        remedy = "Use --precision fp32." if precision != "fp32" else ""
        return DeviceError(f"The numbers of the model overflow in {precision}.", remedy=remedy)

    def _class_of(self, target: Modality | None) -> int:
        if target is None and len(self.targets) == 1:
            return 0
        if target not in self.targets:
            raise ModelError(f"Model {self.identity.id} makes {', '.join(self.targets)}, not {target}.")
        return self.targets.index(target)

    def _tried(self, layout: Layout, work: Work, meter: Meter) -> NDArray[np.float32] | None:
        """Run the tiles of a layout and blend them; None where memory does not hold one."""
        try:
            result = np.zeros_like(work.stack)
            for number, tile in enumerate(layout.tiles()):
                part = self._pipeline.piece(tile, layout.shape, work, meter.part(number, layout.count))
                result[0, 0][tile.window()] += layout.weights(tile) * part
        except OverflowError as error:
            raise self._overflow(work.options.precision) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            result = None
        if result is None:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # here, where the error no longer holds what it interrupted
            return None
        if not np.isfinite(result).all():
            raise self._overflow(work.options.precision)
        if layout.count > 1:
            work.options.remarks["tiles"] = {"count": layout.count, "size": list(layout.size)}
        return np.clip(result, -1, 1, out=result)


def _grid(stack: NDArray[np.float32]) -> Shape:
    if stack.ndim != 5 or stack.shape[:2] != (1, 1):
        raise ValueError(f"ALDM takes a whole volume (1, 1, I, J, K), not {stack.shape}")
    i, j, k = stack.shape[2:]
    return i, j, k


def build(header: Mapping[str, Any], network: AutoencoderModel, identity: Identity) -> Aldm:
    """Make the method from a package's header and its filled network.

    Raises ModelError where the header lacks something, or the network what it takes to make a target.
    """
    if network.first_stage.spade is None:
        raise ModelError(
            f"{identity.id} is an autoencoder without MS-SPADE (ALDM's stage 1), which makes no other contrast.",
            remedy="Take a model of stage 2, or one with the latent diffusion.",
        )
    try:
        sources, targets = (tuple(parse_modality(each) for each in header[key]) for key in ("sources", "targets"))
        recipe = Recipe.from_json(header["recipe"])
        _check_modalities(sources, targets, network.first_stage.config.classes)
        _check_recipe(recipe, network.size_multiple)
        method = Aldm(
            network,
            recipe,
            sources,
            targets,
            default=_default_sampling(header["sampler"], network),
            schedule=LinearSchedule(**header["schedule"]),
            projector_schedule=Schedule(**header["projector_schedule"]),
            output_scale=checked_scale(header["output_scale"]),
            identity=identity,
            latent_limit=_checked_limit(header.get("latent_limit")),
        )
        method.sampling(RunOptions(case=""))  # raises where the steps that it names are not possible
        return method
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelError(f"The header of {identity.id} is incomplete or malformed ({error}).") from error


def _checked_limit(stored: Any) -> float | None:
    if stored is None:
        return None
    limit = float(stored)
    if not 0 < limit < math.inf:
        raise ValueError("its latent_limit is not above 0")
    return limit


def _check_modalities(sources: Sequence[Modality], targets: Sequence[Modality], classes: int) -> None:
    if len(targets) != classes:
        raise ValueError(f"it names {len(targets)} targets, the network has {classes} classes")
    if not sources or len(set(sources)) < len(sources) or len(set(targets)) < len(targets):
        raise ValueError("it names no source, or a modality twice")


def _check_recipe(recipe: Recipe, multiple: int) -> None:
    if not isinstance(recipe.steps[-1], Whole):
        raise ValueError("its recipe does not end with the step whole")
    if any(isinstance(step, Box3d) and step.multiple % multiple for step in recipe.steps):
        raise ValueError(f"the box of its recipe is no multiple of the {multiple} voxels that the network takes")


def samplers_of(network: AutoencoderModel) -> tuple[str, ...]:
    """The samplers that a network has the parts for, the preferred one first."""
    if not isinstance(network, ALDM):
        return (NONE,)
    return (PROJECTOR, DDIM, NONE) if network.projector is not None else (DDIM, NONE)


def _default_sampling(stored: Mapping[str, Any], network: AutoencoderModel) -> Sampling:
    """Read how the model samples by itself; ValueError where it cannot."""
    name, steps, eta = stored["name"], stored["steps"], stored["eta"]
    if name not in samplers_of(network):
        raise ValueError(f"it has not the parts for its sampler {str(name)[:20]!r}")
    if type(steps) is not int or steps < 0 or type(eta) not in (int, float) or not 0 <= eta <= 1:
        raise ValueError("its sampler has no valid steps and eta")
    return Sampling(steps, name, float(eta) if name == DDIM else None)


def network_from_header(header: Mapping[str, Any], name: str) -> AutoencoderModel:
    """Build the network that a header describes, with fresh weights: an `ALDM`, or the first stage alone.

    Raises ModelError where the configuration is malformed, or its parts do not fit each other.
    """
    try:
        stored = header["network"]
        first_stage = FirstStageConfig(**fields_of(stored["first_stage"]))
        unet, projector = (
            None if stored.get(part) is None else LatentUNetConfig(**fields_of(stored[part]))
            for part in ("unet", "projector")
        )
        for part in (unet, projector):
            _check_fit(first_stage, part)
        return make_aldm(first_stage, unet, projector)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The header of {name} does not describe an ALDM network ({error}).") from error


def _check_fit(first_stage: FirstStageConfig, unet: LatentUNetConfig | None) -> None:
    if unet is None:
        return
    latent = first_stage.latent_channels
    if unet.outputs != latent or unet.inputs not in (2 * latent, 3 * latent):
        raise ValueError(f"its UNet takes {unet.inputs} and gives {unet.outputs} channels, its latents have {latent}")
    if unet.classes != first_stage.classes:
        raise ValueError(f"its UNet has {unet.classes} classes, its MS-SPADE {first_stage.classes}")


def header(
    network: AutoencoderModel,
    recipe: Recipe,
    sources: Sequence[Modality],
    targets: Sequence[Modality],
    *,
    output_scale: float,
    about: Mapping[str, Any],
    sampling: Sampling | None = None,
    schedule: LinearSchedule | None = None,
    projector_schedule: Schedule | None = None,
    latent_limit: float | None = None,
) -> dict[str, Any]:
    """Return the package header that `build` reads.

    Parameters
    ----------
    network : only its shape counts.
    sources, targets : modalities; the targets in the order of the network's classes.
    about : id, version, title, licence, citation, scope.
    sampling : how the model samples unless told otherwise; None: by the best sampler that it has the parts for.
    schedule, projector_schedule : None: the released one, and SynDiff's of four steps.
    latent_limit : see `Pipeline`; the released models have none.
    """
    parts = (getattr(network, name, None) for name in ("unet", "projector"))
    unet, projector = (None if part is None else asdict(part.config) for part in parts)
    projector_schedule = projector_schedule or Schedule()
    best = {PROJECTOR: projector_schedule.steps, DDIM: RELEASED_STEPS, NONE: 0}
    name = samplers_of(network)[0]
    sampling = sampling or Sampling(best[name], name, RELEASED_ETA)
    return {
        "method": NAME,
        "network": {"first_stage": asdict(network.first_stage.config), "unet": unet, "projector": projector},
        "sources": [str(each) for each in sources],
        "targets": [str(each) for each in targets],
        "sampler": {
            "name": sampling.name,
            "steps": sampling.steps,
            "eta": RELEASED_ETA if sampling.eta is None else sampling.eta,
        },
        "schedule": (schedule or LinearSchedule()).to_json(),
        "projector_schedule": projector_schedule.to_json(),
        **({} if latent_limit is None else {"latent_limit": latent_limit}),
        "recipe": recipe.to_json(),
        "output_scale": output_scale,
        "about": dict(about),
    }
