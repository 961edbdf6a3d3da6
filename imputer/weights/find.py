"""From what the user calls a model (id, name on the Hub, file, nothing) to a checked file, and why it is that one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights import hub, store
from imputer.weights.choice import choose, makes
from imputer.weights.fields import SUFFIX
from imputer.weights.manifest import STYLED, Entry, HubFile, find

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class Found:
    """A model's file.

    Parameters
    ----------
    path : the file; of one with an entry, size and SHA-256 have been checked.
    entry : what the manifest, the registry or a repository's index says of it; None for a mere file.
    reasons, cautions : why it was chosen and what speaks against it; empty where the user named it.
    """

    path: Path
    entry: Entry | None = None
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where the file came from, as the sidecar says it; never a path, which may tell who a patient is."""
        if self.entry is None:
            return "file"
        home = self.entry.home
        if isinstance(home, HubFile):
            return f"{hub.SCHEME}{home.repo}@{home.revision}"
        return "embedded" if self.entry.embedded else "imported"


def find_model(
    model: str | Path | None,
    source: Modality | None = None,
    target: Modality | None = None,
    *,
    beside: Collection[Modality] = (),
    spacing_mm: tuple[float, float, float] | None = None,
    anatomy: str | None = None,
    styled: bool = False,
    offline: bool = False,
    progress: hub.Progress | None = None,
    at_hand: Mapping[str, Path] | None = None,
) -> Found:
    """Return the file of a model, fetched where it is not here yet.

    Parameters
    ----------
    model : an id of `imputer models list`, `hf://owner/repo[@revision]`, a model file; None: the best one for the pair.
    source, target : the pair that is asked for; they pick from a repository with several models.
    beside : sources that enter together with the first one.
    spacing_mm, anatomy : of the volume, (3,) and e.g. "brain"; what the choice goes by, besides the pair.
    styled : choose among those alone that may give a result the look of a reference scan.
    offline : never use the network.
    progress : called with (stage, done, total), bytes.
    at_hand : by SHA-256, files that were found before and need no second check, since they are loaded already.

    Raises
    ------
    ModelError
        Where there is no such model, it cannot be fetched, or it is damaged.
    """
    offline = store.is_offline(offline)
    if model is None:
        if source is None or target is None:
            raise ModelError("Without a pair of modalities no model can be chosen.", remedy="Name a model.")
        candidates = [entry for entry in store.all_entries() if not styled or entry.method in STYLED]
        choice = choose(candidates, source, target, beside=beside, spacing_mm=spacing_mm, anatomy=anatomy)
        path = _obtain(choice.entry, at_hand, offline=offline, progress=progress)
        return Found(path, choice.entry, choice.reasons, choice.cautions)
    text = str(model)
    if not text.startswith(hub.SCHEME) and Path(text).suffix == SUFFIX:
        return Found(Path(text))
    entry = named(text, source, target, beside=beside, offline=offline, progress=progress)
    cautions: tuple[str, ...] = ()
    if source is not None and target is not None and makes(entry, source, target, beside) and entry.is_runnable:
        choice = choose([entry], source, target, beside=beside, spacing_mm=spacing_mm, anatomy=anatomy)
        cautions = choice.cautions
    return Found(_obtain(entry, at_hand, offline=offline, progress=progress), entry, cautions=cautions)


def _obtain(entry: Entry, at_hand: Mapping[str, Path] | None, *, offline: bool, progress: hub.Progress | None) -> Path:
    known = at_hand.get(entry.sha256) if at_hand is not None else None
    return known or hub.obtain(entry, offline=offline, progress=progress)


def named(
    name: str,
    source: Modality | None = None,
    target: Modality | None = None,
    *,
    beside: Collection[Modality] = (),
    offline: bool = False,
    progress: hub.Progress | None = None,
) -> Entry:
    """Return the entry of an id or of a name on the Hub; ModelError where there is none, or several fit."""
    fitting = matching(name, source, target, beside=beside, offline=offline, progress=progress)
    if len(fitting) == 1:
        return fitting[0]
    if source is not None and target is not None and any(entry.is_runnable for entry in fitting):
        return choose(fitting, source, target, beside=beside).entry
    pairs = ", ".join(entry.pair for entry in fitting)
    raise ModelError(f"{name} has several models: {pairs}.", remedy="Say which pair is meant, with --from and --to.")


def matching(
    name: str,
    source: Modality | None = None,
    target: Modality | None = None,
    *,
    beside: Collection[Modality] = (),
    offline: bool = False,
    progress: hub.Progress | None = None,
) -> tuple[Entry, ...]:
    """Return the entry of an id, or those of a repository on the Hub that make the pair; None stands for any modality.

    Raises
    ------
    ModelError
        Where there is none.
    """
    if name.startswith(hub.SCHEME):
        entries = hub.resolve(hub.parse(name), offline=store.is_offline(offline), progress=progress).entries
        fitting = tuple(entry for entry in entries if makes(entry, source, target, beside))
        if not fitting:
            pairs = ", ".join(entry.pair for entry in entries) or "none"
            given = "" if source is None else f" from {' + '.join((source, *beside))}"
            raise ModelError(f"{name} has no model{given} to {target}.", remedy=f"It makes: {pairs}.")
        return fitting
    if name.endswith((SUFFIX, *CHECKPOINT_SUFFIXES)):
        file = Path(name).name
        raise ModelError(f"{file} is a file, not a name.", remedy="Bring it in with 'imputer models import'.")
    return (find(name, store.all_entries()),)
