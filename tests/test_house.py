"""The rules of docs/architecture.md: who may import whom, which folders reach no torch, how long things may be."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "imputer"

# Storey of each folder and of each file at the top. Two of one storey never import each other, except on the ground.
STOREYS = {
    "errors": 0,
    "allocator": 0,
    "garbage": 0,
    "processors": 0,
    "modality": 0,
    "files": 0,
    "seeds": 0,
    "safetensors_header": 0,
    "plain_zip": 0,
    "volume": 1,
    "io": 2,
    "preprocess": 2,
    "phantom": 2,
    "nets": 2,
    "diffusion": 2,
    "weights": 2,
    "report": 2,
    "engines": 2,
    "methods": 3,
    "pretrained": 4,
    "train": 4,
    "synth": 5,
    "evaluate": 5,
    "batch": 6,
    "cli": 7,
    "": 8,  # imputer/__init__.py
    "__main__": 8,
}
# Files at the top that are one thing.
PARTS = {
    "anatomy": "phantom",
    "mr_signal": "phantom",
    "results": "synth",
    "case": "synth",
    "told": "synth",
    "scope": "synth",
    "style": "synth",
    "sources": "synth",
    "scored": "evaluate",
    "ms_ssim": "evaluate",
    "scores_file": "evaluate",
    "trained_on": "evaluate",
}
GROUND = (
    "errors",
    "allocator",
    "garbage",
    "processors",
    "modality",
    "files",
    "seeds",
    "safetensors_header",
    "plain_zip",
)
WITHOUT_TORCH = (*GROUND, "volume", "io", "preprocess", "phantom", "weights", "report", "cli")
# What a package is imported as, where that is not its name.
IMPORTED_AS = {"python-gdcm": "gdcm", "huggingface-hub": "huggingface_hub", "pillow": "PIL", "simpleitk": "SimpleITK"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


@dataclass(frozen=True)
class Import:
    """One import statement: who, of what module, and whether it runs when the file is loaded."""

    file: Path
    line: int
    module: str
    at_load: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wing(module: str) -> str:
    """The folder of a module inside the package, or the file where it lies at the top."""
    name = module.split(".")[1] if "." in module else ""
    return PARTS.get(name, name)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, "imports are absolute here"
    for alias in node.names:
        full = f"{node.module}.{alias.name}"
        if full == "imputer.__version__":
            continue  # a constant, free for all
        yield full if full.startswith("imputer.") and is_module(full) else str(node.module)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(file: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, at_load: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(file, node.lineno, name, at_load) for name in _targets(node))
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            visit(child, at_load and not deferred)

    visit(ast.parse(file.read_text(encoding="utf-8")), True)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]
OWN = [found for found in IMPORTS if found.module.split(".")[0] == "imputer"]


def is_allowed(importer: str, imported: str) -> bool:
    """Whether the module `importer` may import the module `imported` (names with dots)."""
    here, there = wing(importer), wing(imported)
    if STOREYS[there] < STOREYS[here]:
        return there != "train" or (importer == "imputer.cli.train")
    return here == there or STOREYS[here] == STOREYS[there] == 0 or (here == "__main__" and there == "cli")


def plainly_installed() -> set[str]:
    """What can be imported after an installation without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=\[; ]", each)[0].lower() for each in project["dependencies"]]
    return {*sys.stdlib_module_names, "imputer", *(IMPORTED_AS.get(name, name) for name in names)}


def test_nothing_of_an_extra_is_loaded_without_need() -> None:
    known = plainly_installed()
    foreign = [
        found
        for found in IMPORTS
        if found.at_load and found.module.split(".")[0] not in known and wing(module_name(found.file)) != "train"
    ]
    assert not foreign, "\n".join(map(str, foreign))


def test_the_scan_sees_the_package() -> None:
    assert len(FILES) > 20
    assert any(found.module == "imputer.errors" for found in OWN)
    assert any(not found.at_load for found in OWN)


def test_every_file_has_a_storey() -> None:
    assert {wing(module_name(file)) for file in FILES} <= set(STOREYS)


def test_a_file_imports_only_from_below_or_from_its_own_folder() -> None:
    wrong = [str(found) for found in OWN if not is_allowed(module_name(found.file), found.module)]
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("imputer.synth", "imputer.io.dispatch", True),
        ("imputer.modality", "imputer.errors", True),
        ("imputer.io.dispatch", "imputer.io.nifti", True),
        ("imputer.io.dispatch", "imputer.preprocess.recipe", False),
        ("imputer.volume", "imputer.io.dispatch", False),
        ("imputer.nets.ncsnpp", "imputer.diffusion.schedule", False),
        ("imputer.synth", "imputer.train.config", False),
        ("imputer.cli.train", "imputer.train.config", True),
        ("imputer.cli.synth", "imputer", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert is_allowed(importer, imported) is allowed


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for found in OWN:
        if wing(module_name(found.file)) != "":  # the door imports by name, on first use
            graph.setdefault(module_name(found.file), set()).add(found.module)
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' -> '.join(error.args[1])}")
    assert len(order) > 20


def test_the_light_folders_name_no_torch() -> None:
    light = [found for found in IMPORTS if wing(module_name(found.file)) in WITHOUT_TORCH]
    assert [str(found) for found in light if found.module.split(".")[0] in ("torch", "lightning_fabric")] == []


def test_command_files_import_the_library_inside_their_commands() -> None:
    early = [
        str(found)
        for found in OWN
        if wing(module_name(found.file)) == "cli" and found.at_load and STOREYS[wing(found.module)] not in (0, 7)
    ]
    assert early == []


def test_nobody_imports_click() -> None:
    assert [str(found) for found in IMPORTS if found.module.split(".")[0] == "click"] == []
    assert [str(found) for found in IMPORTS if found.module.startswith(("typer._", "typer.core"))] == []


def test_an_init_of_a_folder_is_one_docstring() -> None:
    for file in PACKAGE.glob("*/**/__init__.py"):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        assert len(body) == 1, file
        assert isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant), file
        assert len(file.read_text(encoding="utf-8").splitlines()) == 1, file


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function with its signature, without its docstring: a thorough one is no fault."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    told = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - told


def test_files_and_functions_stay_small() -> None:
    for file in [*FILES, *ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")]:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_FILE, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert length(node) <= LONGEST_FUNCTION, f"{file}: {node.name}"


def test_every_module_says_what_it_is() -> None:
    assert [str(file) for file in FILES if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []
