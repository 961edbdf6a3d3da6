"""docs/cluster.md says only what is so: its snippets parse, its commands exist, its job scripts do what they say."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import imputer
from imputer import errors
from imputer.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
IMAGE = f"registry.example/imputer:{imputer.__version__}"
OPERATORS = ("||", "&&", ";", "|", "&")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


SHELL, PYTHON = blocks("sh"), blocks("python")
(SBATCH,) = (block for block in SHELL if block.startswith("#!/bin/bash\n"))


def job() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    (text,) = blocks("yaml")
    return dict(yaml.safe_load(text))


def container() -> dict[str, Any]:
    (found,) = job()["spec"]["template"]["spec"]["containers"]
    return dict(found)


def calls(line: str) -> list[list[str]]:
    """Arguments of the calls of imputer in a line of shell: by itself, in Docker or in Apptainer."""
    words = shlex.split(line, comments=True)
    if words[:2] in (["docker", "build"], ["docker", "save"], ["docker", "volume"], ["apptainer", "build"]):
        return []
    starts = [place for place, word in enumerate(words) if word in ("imputer", "imputer.sif")]
    found = []
    for start in starts:
        rest = words[start + 1 :]
        end = next((place for place, word in enumerate(rest) if word in OPERATORS), len(rest))
        found.append(rest[:end])
    return found


def lists(block: str) -> list[list[str]]:
    """Arguments of the calls of imputer in a block of Python, which are lists; what is no literal is left out."""
    found = []
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.List) and node.elts:
            words = [str(each.value) for each in node.elts if isinstance(each, ast.Constant)]
            if words[:1] == ["imputer"]:
                found.append(words[1:])
    return found


COMMANDS = [
    *(call for block in SHELL for line in block.replace("\\\n", " ").splitlines() for call in calls(line)),
    *(call for block in PYTHON for call in lists(block)),
]


@cache
def command_help(*words: str) -> str:
    answer = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert answer.exit_code == 0, f"imputer {' '.join(words)} is no command: {answer.output}"
    return answer.stdout


def assert_exists(arguments: list[str]) -> None:
    text = command_help(*arguments[: 2 if arguments[0] == "models" else 1])
    for option in (word for word in arguments if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} is not in the help"


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 14
    assert {arguments[0] for arguments in COMMANDS} == {"synth", "batch", "models", "doctor"}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_and_option_exists(arguments: list[str]) -> None:
    assert_exists(arguments)


@pytest.mark.parametrize("text", re.findall(r"`(--[a-z-]+(?: \S+?)*)`", TEXT))
def test_options_in_the_text_exist_where_they_are_imputers(text: str) -> None:
    foreign = ("--user", "--gpus", "--read-only", "--stop-timeout", "--network", "--lifetime", "--signal")
    assert text.startswith(foreign) or text.split()[0] in command_help("batch")


@pytest.mark.parametrize("block", SHELL)
def test_shell_parses(block: str) -> None:
    result = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("block", PYTHON)
def test_python_parses(block: str) -> None:
    assert ast.parse(block).body


FORMS = {
    "job-name": r"[\w-]+",
    "array": r"\d+-\d+",
    "ntasks": "1",
    "cpus-per-task": r"[1-9]\d*",
    "gres": r"gpu(:\w+)?:\d+",
    "mem": r"\d+[KMGT]",
    "time": r"\d{2}:\d{2}:\d{2}",
    "signal": r"TERM@\d+",  # without B: it goes to the steps, which is to srun's imputer and not to the script
    "requeue": "",
    "open-mode": "append",  # or a task that goes on would wipe what it said before
    "output": r"\S*%A\S*%a\S*",
    "error": r"\S*%A\S*%a\S*",
}


def directives() -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH ") for line in SBATCH.splitlines() if line.startswith("#SBATCH ")]
    assert all(line.startswith("--") for line in lines)
    return {line[2:].partition("=")[0]: line.partition("=")[2] for line in lines}


def test_sbatch_directives_are_plausible_and_come_first() -> None:
    found = directives()
    assert found.keys() == FORMS.keys()
    assert {name: value for name, value in found.items() if not re.fullmatch(FORMS[name], value)} == {}
    body = SBATCH.splitlines()
    first_command = next(place for place, line in enumerate(body) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in body[first_command:])


STUB = """#!/bin/bash
echo "$(basename "$0") $*" >>"$NOTES"
[ "$(basename "$0")" != srun ] || exit "$STATUS"
"""


def submit(room: Path, status: int, **env: str) -> tuple[int, list[str]]:
    """Run the batch script with a srun that ends with this status; its exit code, and what it called."""
    for name in ("srun", "scontrol"):
        (room / name).write_text(STUB, encoding="utf-8")
        (room / name).chmod(0o755)
    slurm = {"SLURM_CPUS_PER_TASK": "4", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3", "STATUS": str(status)}
    given = {"PATH": f"{room}:{os.environ['PATH']}", "NOTES": str(room / "notes"), **slurm, **env}
    script = room / "imputer.sbatch"
    script.write_text(SBATCH, encoding="utf-8")
    result = subprocess.run(["bash", str(script)], env=given, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.returncode, (room / "notes").read_text(encoding="utf-8").splitlines()


def test_a_task_that_was_interrupted_goes_back_into_the_queue(tmp_path: Path) -> None:
    code, called = submit(tmp_path, 130)
    assert code == 130
    assert called[0].startswith("srun --cpus-per-task=4 imputer batch ")
    assert called[1:] == ["scontrol requeue 77_3"]


@pytest.mark.parametrize("status", [0, 3, 8, 9])
def test_a_task_that_came_to_its_end_does_not(tmp_path: Path, status: int) -> None:
    code, called = submit(tmp_path, status)
    assert (code, len(called)) == (status, 1)


def test_a_task_does_not_go_back_for_ever(tmp_path: Path) -> None:
    code, called = submit(tmp_path, 130, SLURM_RESTART_COUNT="20")
    assert (code, len(called)) == (130, 1)


def test_the_kubernetes_job_is_whole() -> None:
    spec = job()["spec"]
    pod = spec["template"]["spec"]
    assert (job()["apiVersion"], job()["kind"]) == ("batch/v1", "Job")
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")  # both for the failure policy
    assert container()["image"] == IMAGE
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert {"/cache", "/tmp"} <= {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_kubernetes_job_heeds_the_exit_codes() -> None:
    rules = job()["spec"]["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    again, last = actions.pop(130), {actions.pop(code) for code in (8, 9)}
    assert (again, last) == ("Ignore", {"FailIndex"})
    assert actions == dict.fromkeys((2, 3, 4, 6), "FailJob")
    for rule in rules:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == container()["name"]
            assert rule["onExitCodes"]["values"] == sorted(rule["onExitCodes"]["values"])


def test_the_pods_take_all_parts(tmp_path: Path) -> None:
    count = job()["spec"]["completions"]
    stub = tmp_path / "imputer"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n', encoding="utf-8")
    stub.chmod(0o755)
    said = []
    for index in range(count):
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        command = [*container()["command"], *container()["args"]]
        said.append(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split())
    for words in said:
        assert_exists(words)
        assert words[words.index("--num-parts") + 1] == str(count)
    assert [words[words.index("--part-id") + 1] for words in said] == [str(part) for part in range(1, count + 1)]


def test_the_exit_codes_are_those_of_the_package() -> None:
    rows = re.findall(r"(?m)^\| ([\d, ]+) \|", TEXT.split("## Exit codes")[1])
    told = {int(code) for row in rows for code in row.split(",")}
    own = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert told == own | {0, 1, 8, 9, 130, 137}


def test_the_build_arguments_are_those_of_the_dockerfile() -> None:
    table = TEXT.split("| build argument |")[1].split("\n\n")[0]
    told = set(re.findall(r"`([A-Z_]+)`", table))
    there = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert told == there
    assert set(re.findall(r"--build-arg (\w+)=", TEXT)) <= there


def test_the_variables_are_those_of_the_command_line() -> None:
    told = set(re.findall(r"\b(?:IMPUTER|HF)_[A-Z_]+\b", TEXT))
    known = set(re.findall(r"\b(?:IMPUTER|HF)_[A-Z_]+\b", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")))
    assert {"IMPUTER_HOME", "IMPUTER_WEIGHTS_PATH", "IMPUTER_OFFLINE"} <= told <= known


def test_linked_files_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert "cli.md" in links
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
