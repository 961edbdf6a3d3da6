"""The weights that a run starts from; those of a model of fewer sources are widened with zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from imputer.errors import UsageError
from imputer.nets.checkpoint import load_strictly, read_tensors
from imputer.train.config import TrainConfig
from imputer.weights.manifest import Imported
from imputer.weights.package import entry_of


def load_initial(network: nn.Module, config: TrainConfig) -> None:
    """Fill a generator with the weights of `config.initial`.

    A run of several sources may start from a model of some of them: it then begins as that model, deaf to the others.
    Raises ModelError where the weights do not fit, UsageError where the model has a source that the run has not.
    """
    path = Path(config.initial)
    tensors = read_tensors(path)
    if config.other_sources:
        known = entry_of(path, Imported(path)).sources
        foreign = [source for source in known if source not in config.sources]
        if foreign:
            raise UsageError(
                f"{path.name} starts from {' + '.join(foreign)}, which is no source of this run.",
                remedy="Give another --init, or that source too.",
            )
        if len(known) == len(config.sources) and known != config.sources:
            raise UsageError(
                f"{path.name} takes its sources in another order: {' + '.join(known)}.",
                remedy="Give --source and --from in that order.",
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        tensors = widened(tensors, shapes, [0, *(1 + config.sources.index(source) for source in known)])
    load_strictly(network, tensors, path.name)


def widened(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], channels: Sequence[int]
) -> dict[str, Tensor]:
    """Bring tensors to `shapes` where one axis alone differs and holds image channels; those not in `channels` are 0.

    `channels` tells which image channel each of the tensors' own becomes: 0 is the noisy target, then the sources.
    """
    wide = dict(tensors)
    for name, tensor in tensors.items():
        wanted = shapes.get(name, tuple(tensor.shape))
        if len(wanted) != tensor.dim():
            continue
        axes = [axis for axis, size in enumerate(wanted) if size != tensor.shape[axis]]
        if len(axes) == 1 and tensor.shape[axes[0]] == len(channels):
            wide[name] = torch.zeros(wanted).index_copy(axes[0], torch.tensor(channels), tensor)
    return wide
