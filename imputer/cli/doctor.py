"""``imputer doctor``: versions, devices and the state of the model files, to look at or to paste into a bug report."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from imputer import __version__
from imputer.cli import options
from imputer.cli.output import refuse_damaged, reports_errors, show_fields, show_json
from imputer.errors import DeviceError

app = typer.Typer()

_PACKAGES = (
    "numpy",
    "torch",
    "nibabel",
    "SimpleITK",
    "safetensors",
    "huggingface-hub",
    "Pillow",
    "typer",
    "lightning-fabric",
    "scikit-image",
)

# Asked of another process: torch takes a second to load, and one that cannot be loaded must not stop this report.
_ASK_DEVICES = """
import json, torch
cuda = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
mps = ["mps"] if torch.backends.mps.is_available() else []
print(json.dumps({"devices": cuda + mps + ["cpu"], "threads": torch.get_num_threads()}))
"""
_PATIENCE = 120  # seconds


@app.command()
@reports_errors
def doctor(as_json: options.AsJson = False) -> None:
    """Say which versions, devices and models are here.

    Exit code 4 where a model file is missing or damaged, 5 where torch does not load.
    """
    from imputer.weights import hub, store

    faults = {hub.name_of(entry): store.problem(entry) for entry in hub.here()}
    record = {
        "imputer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        **_devices(),
        "cache": str(store.home()),
        "offline": store.is_offline(),
        "models": {name: problem or "sound" for name, problem in faults.items()},
    }
    if as_json:
        show_json(record)
    else:
        show_fields(_readable(record))
    refuse_damaged(faults.items())
    if "problem" in record:
        raise DeviceError(f"Nothing can be computed: {record['problem']}.", remedy="Install torch again.")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    """Devices that torch sees, best first, and its CPU threads; `problem` where torch cannot be loaded."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _ASK_DEVICES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
        found: dict[str, Any] = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"devices": [], "threads": 0, "problem": f"torch does not load ({type(error).__name__})"}
    return found


def _readable(record: dict[str, Any]) -> dict[str, object]:
    flat = {name: value for name, value in record.items() if not isinstance(value, dict)}
    flat["devices"] = ", ".join(record["devices"]) or "none"
    packages = {name: found or "not installed" for name, found in record["packages"].items()}
    return {**flat, **packages, **record["models"]}
