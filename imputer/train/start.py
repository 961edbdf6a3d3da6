"""From a configuration to a finished run: data, held-out cases, engine, trainer, loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imputer.diffusion.schedule import Schedule
from imputer.errors import UsageError
from imputer.methods.syndiff import CHANNELS, FUSIONS, MEAN
from imputer.modality import Modality, parse_modality
from imputer.nets.layers import group_count
from imputer.preprocess.recipe import Recipe
from imputer.train import loop
from imputer.train.adversarial_trainer import RunData
from imputer.train.augment import strength_of
from imputer.train.config import SETTINGS, TrainConfig, check_numbers, read_config, refuse_changes, write_config
from imputer.train.data import (
    Case,
    SliceSampler,
    Stack,
    find_cases,
    held_apart,
    paired_stack,
    swapped,
    tilted_stacks,
    unpaired_stack,
    voxel_sizes,
)
from imputer.train.diffusive import network_config
from imputer.train.disdiff_config import LIMITS as DISDIFF_LIMITS
from imputer.train.disdiff_config import DisDiffTrainConfig, model_config
from imputer.train.disdiff_trainer import DisDiffTrainer
from imputer.train.engine import launch
from imputer.train.scores import HeldOut
from imputer.train.seen import look_at
from imputer.train.ship import data_recipe
from imputer.train.syndiff_trainer import SynDiffTrainer

AnySliceConfig = TrainConfig | DisDiffTrainConfig
TRANSLATOR_MULTIPLE = 4  # of unpaired training's ResNets
MOST_DROPOUT = 0.9  # of sources; near 1 hardly a slice would have two
FREE = {
    "source_dir",
    "other_source_dirs",
    "target_dir",
    "steps",
    "validation_slices",
}  # may change on resume, beside what always may
DIRECTIONS = {"both": ("forward", "backward"), "forward": ("forward",), "backward": ("backward",)}


def check(config: AnySliceConfig) -> None:
    """Raise UsageError for settings that contradict each other."""
    _check_modalities(config)
    check_numbers(
        config,
        {
            "steps": (1, 10**9),
            "validation_slices": (1, 10**6),
            "tilted_grids": (0, 1000),
            "generator_rate": (0, 10),
            "source_dropout": (0, MOST_DROPOUT),
            "discriminator_width": (1, 4096),
        },
    )
    strength_of(config.intensity_strength)
    if not config.paired and config.adversarial_weight <= 0:
        raise UsageError("Unpaired training needs the adversarial loss.", remedy="Give --set adversarial_weight=1.")
    for name in ("both_grids", "tilted_grids"):
        if not config.paired and getattr(config, name):
            raise UsageError("Without pairs each volume has one grid.", remedy=f"Add --paired or drop {name}.")
    if not config.paired and config.patch_weight > 0:
        raise UsageError("The patch loss on estimates is for paired data.", remedy="Add --paired or drop patch_weight.")
    if isinstance(config, TrainConfig):
        _check_syndiff(config)
    else:
        _check_disdiff(config)
    try:
        multiple = size_multiple(config)
        Schedule(steps=config.diffusion_steps)
    except ValueError as error:
        raise UsageError(f"These settings make no network: {error}.", remedy="Change them with --set.") from error
    if isinstance(config, TrainConfig) and not config.paired:
        multiple = max(multiple, TRANSLATOR_MULTIPLE)
    critic_side = config.adversarial_crop or min(config.crop)
    has_critic = config.adversarial_weight > 0 or isinstance(config, DisDiffTrainConfig)
    if any(side % multiple for side in config.crop) or (has_critic and critic_side < 64):
        raise UsageError(
            f"Height and width of --crop must be multiples of {multiple}, and at least 64 with a discriminator."
        )
    if critic_side > min(config.crop):
        raise UsageError("The discriminator's square is larger than --crop.", remedy="Lower adversarial_crop.")


def _check_syndiff(config: TrainConfig) -> None:
    if config.initial and not config.paired:
        raise UsageError("Only paired training starts from a model.", remedy="Add --paired or leave --init out.")
    if config.direction not in DIRECTIONS:
        raise UsageError(f"Direction {config.direction!r} is unknown.", remedy="Use both, forward or backward.")
    if config.direction != "both" and not config.paired:
        raise UsageError("One direction alone needs paired data.", remedy="Add --paired or train both directions.")
    if config.fusion not in FUSIONS:
        raise UsageError(f"The fusion {config.fusion!r} is unknown.", remedy=f"Use {' or '.join(FUSIONS)}.")
    if config.fusion != CHANNELS and not config.other_sources:
        raise UsageError("There is one source, and nothing to bring together.", remedy="Leave fusion out.")
    if config.initial and config.direction == "both":
        raise UsageError("A starting model belongs to one direction.", remedy="Add --direction forward or backward.")


def _check_disdiff(config: DisDiffTrainConfig) -> None:
    check_numbers(config, DISDIFF_LIMITS)
    if config.disentangle and config.content_width % group_count(config.content_width):
        raise UsageError(
            f"The setting content_width is {config.content_width}.", remedy="Give a multiple of 32, or of 4 below 128."
        )
    if config.disentangle and config.attribute_size < 1:
        raise UsageError("Disentanglement needs an attribute.", remedy="Raise attribute_size, or disentangle=false.")
    if config.source_white != config.target_white:
        raise UsageError(
            "DisDiff has one recipe for both contrasts.", remedy="Give source_white and target_white the same value."
        )


def _check_modalities(config: AnySliceConfig) -> None:
    """Raise UsageError where a modality is there twice, or several sources are to do what they cannot."""
    if parse_modality(config.target) in config.sources:
        raise UsageError("Source and target are the same modality.", remedy="Give two different ones.")
    if not config.other_sources:
        if config.other_source_dirs:
            raise UsageError("There are folders of further sources, but no further sources.", remedy="Name them.")
        return
    if len(set(config.sources)) < len(config.sources):
        raise UsageError("A source is there twice.", remedy="Name each modality once.")
    if len(config.other_source_dirs) not in (0, len(config.other_sources)):
        raise UsageError("The sources and their folders differ in number.", remedy="Give one --source for each --from.")
    one_way = not isinstance(config, TrainConfig) or config.direction == "forward"
    if not config.paired or not one_way:
        raise UsageError(
            "Several sources are learnt from paired data, towards the target only.",
            remedy="Add --paired" + ("." if one_way else " and --direction forward."),
        )


def size_multiple(config: AnySliceConfig) -> int:
    """Return what height and width of the network's images are multiples of; ValueError where there is no network."""
    return (
        network_config(config).size_multiple if isinstance(config, TrainConfig) else model_config(config).size_multiple
    )


def directions(config: AnySliceConfig) -> tuple[str, ...]:
    """Return what a run learns: forward is from source to target."""
    if isinstance(config, TrainConfig):
        return DIRECTIONS[config.direction]
    return DIRECTIONS["forward" if config.other_sources else "both"]


def plan(config: AnySliceConfig) -> tuple[list[Case], list[Case]]:
    """Return the cases to train on and those held out.

    Raises UsageError or InputError where nothing is left to train on.
    """
    check(config)
    folders = config.other_source_dirs or [config.source_dir] * len(config.other_sources)
    cases = find_cases(
        Path(config.source_dir), Path(config.target_dir), config.sources[0], parse_modality(config.target),
        others=list(zip(map(Path, folders), config.sources[1:], strict=True)), exclude=config.exclude,
    )  # fmt: skip
    training, held_out = held_apart(cases, config.holdout)
    if config.paired:
        training = [case for case in training if case.is_whole]
    has_each = [any(paths) for paths in zip(*(case.sources for case in training), strict=True)]
    if not (has_each and all(has_each) and any(case.target for case in training)):
        raise UsageError(
            "No case to train on has what is needed.",
            remedy="Paired training needs both contrasts under the same name; unpaired at least one volume of each.",
        )
    return training, [case for case in held_out if case.is_whole]


def start(
    config: AnySliceConfig,
    *,
    resume: bool = False,
    on_message: Callable[[str], None] = loop.silent,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> list[Path]:
    """Train SynDiff or DisDiff, by the kind of settings, and return the packages; see `imputer.train.loop.run`."""
    training, held_out = plan(config)
    folder = Path(config.output)
    fabric = launch(config.accelerator, config.devices, config.precision)
    loop.prepare_folder(folder, resume=resume)
    if resume and (folder / SETTINGS).exists():
        refuse_changes(config, read_config(folder / SETTINGS, type(config)), FREE)
    write_config(config, folder / SETTINGS)
    names = directions(config)
    if not fabric.is_global_zero:  # one process of several speaks
        on_message, on_step = loop.silent, None
    on_message(f"{len(training)} cases to train on, {len(held_out)} held out; preparing slices")
    samplers = {name: sampler_of(config, training, name) for name in names}
    if isinstance(config, DisDiffTrainConfig) and config.other_sources:
        samplers |= _of_each_source(config, samplers["forward"].stacks)
    on_message(f"{sum(len(sampler) for sampler in samplers.values())} slices; training on {fabric.device}")
    scored = {name: _held_out(config, held_out, name) for name in names}
    sizes = {
        name: voxel_sizes(
            path
            for case in training
            for path in (case.sources if name == "forward" else [case.target])
            if path is not None
        )
        for name in names
    }
    data = RunData(samplers, scored, sizes, look_at(_volumes(config, training), config.initial))
    trainer: loop.Trainer
    if isinstance(config, TrainConfig):
        trainer = SynDiffTrainer(config, folder, fabric, data)
    else:
        trainer = DisDiffTrainer(config, folder, fabric, data)
    return loop.run(trainer, config, folder, resume=resume, on_step=on_step)


def _volumes(config: AnySliceConfig, cases: list[Case]) -> Iterator[tuple[Modality, Path]]:
    """Yield the volumes of cases, each with its contrast."""
    modalities = (*config.sources, parse_modality(config.target))
    for case in cases:
        paths = zip(modalities, (*case.sources, case.target), strict=True)
        yield from ((modality, path) for modality, path in paths if path is not None)


def _pair(config: AnySliceConfig, case: Case, name: str, *, on_target: bool = False) -> Stack:
    """Make a case's paired stack on the grid of the direction's own source, or target; `slices` are that source's."""
    forward = name == "forward"
    grid = "source" if forward != on_target else "target"
    stack = paired_stack(case, grid, _recipes(config), register=config.register)
    return stack if forward else swapped(stack)


def _tilted(config: AnySliceConfig, case: Case, name: str) -> list[Stack]:
    """Make a case's paired stacks on tilted grids; the two directions have the same ones."""
    made = tilted_stacks(
        case, _recipes(config),
        register=config.register, count=config.tilted_grids, pixel_mm=config.pixel_mm, seed=config.seed,
    )  # fmt: skip
    return made if name == "forward" else [swapped(stack) for stack in made]


def _recipes(config: AnySliceConfig) -> tuple[Recipe, Recipe]:
    """Return the recipes of training data of source and target."""
    return data_recipe(config, config.source_white), data_recipe(config, config.target_white)


def sampler_of(config: AnySliceConfig, cases: list[Case], name: str) -> SliceSampler:
    """Return what a direction's training slices are drawn from."""
    if config.paired:
        grids = (False, True) if config.both_grids else (False,)
        stacks = [_pair(config, case, name, on_target=on_target) for case in cases for on_target in grids]
        if config.tilted_grids:
            stacks += [stack for case in cases for stack in _tilted(config, case, name)]
    else:  # images of the contrast that the direction synthesises
        white = config.target_white if name == "forward" else config.source_white
        paths = [(case.name, case.target if name == "forward" else case.source) for case in cases]
        stacks = [unpaired_stack(case, path, data_recipe(config, white)) for case, path in paths if path is not None]
    return _drawing(config, stacks)


def _drawing(config: AnySliceConfig, stacks: Sequence[Stack]) -> SliceSampler:
    one_by_one = isinstance(config, TrainConfig) and config.fusion == MEAN
    return SliceSampler(
        stacks, config.crop,
        augmented=config.augment, balanced=config.balance, strength=strength_of(config.intensity_strength),
        dropout=1.0 if one_by_one else config.source_dropout,
    )  # fmt: skip


def _of_each_source(config: DisDiffTrainConfig, stacks: Sequence[Stack]) -> Iterator[tuple[str, SliceSampler]]:
    """Yield what draws slices of one source of several, with the target's beside them."""
    for number, source in enumerate(config.sources):
        yield (
            str(source),
            _drawing(config, [swapped(each.of_source(number)) for each in stacks if each.present[number]]),
        )


def _held_out(config: AnySliceConfig, cases: list[Case], name: str) -> list[HeldOut]:
    multiple = size_multiple(config)
    return [HeldOut.make(_pair(config, case, name), config.validation_slices, multiple) for case in cases]
