"""Device, precision and distribution of a training run: Lightning Fabric, an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imputer.errors import DeviceError, ImputerError, UsageError, installing

if TYPE_CHECKING:
    from lightning_fabric import Fabric


ACCELERATORS = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def launch(accelerator: str, devices: int, precision: str) -> Fabric:
    """Return Lightning Fabric, launched.

    Raises ImputerError, which names the extra, where it is not installed, DeviceError where the device is not there,
    and UsageError for an unknown name.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise ImputerError("Training needs the extra 'train'.", remedy=installing("train")) from error
    if accelerator not in ACCELERATORS or precision not in PRECISIONS:
        raise UsageError(
            f"Accelerator {accelerator!r} or precision {precision!r} is unknown.",
            remedy=f"Use {', '.join(ACCELERATORS)}; and {', '.join(PRECISIONS)}.",
        )
    options: dict[str, Any] = {"strategy": "ddp_find_unused_parameters_true"} if devices > 1 else {}
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision, **options)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"The engine takes no {precision!r} on {accelerator!r}.", remedy="Use 32-true.") from error
    except (RuntimeError, MisconfigurationException) as error:
        raise DeviceError(
            f"{devices} x {accelerator} is not available on this machine.",
            remedy="Use --device cpu or auto.",
        ) from error
    fabric.launch()
    return fabric
