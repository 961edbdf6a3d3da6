"""Settings of a run: TOML and back, and what is no settings file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imputer.errors import OutputError, UsageError
from imputer.train.config import TrainConfig, read_config, write_config

PLAIN = TrainConfig(source_dir="t1", target_dir="t2", output="run")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=TEXTS,
    holdout=st.lists(TEXTS),
    rate=st.floats(1e-12, 1e12),
    crop=st.tuples(st.integers(1, 999), st.integers(1, 999)),
    paired=st.booleans(),
)
def test_settings_come_back(
    tmp_path: Path, title: str, holdout: list[str], rate: float, crop: tuple[int, int], paired: bool
) -> None:
    config = replace(PLAIN, title=title, holdout=tuple(holdout), generator_rate=rate, crop=crop, paired=paired)
    write_config(config, tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml", TrainConfig) == config


def test_awkward_texts_come_back(tmp_path: Path) -> None:
    config = replace(PLAIN, title='C:\\new "x" \n\t\x00\x7f é \U0001f9e0', attention_levels=())
    write_config(config, tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml", TrainConfig) == config


def test_settings_left_out_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('source_dir = "t1"\ntarget_dir = "t2"\noutput = "run"\nwidth = 32\n')
    assert read_config(path, TrainConfig) == replace(PLAIN, width=32)


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write_config(PLAIN, path)
    path.write_text(path.read_text() + "wdith = 3\nannealing = true\n")
    with pytest.raises(UsageError, match=r"config\.toml.*annealing, wdith"):
        read_config(path, TrainConfig)


@pytest.mark.parametrize("content", [b"width = ", b"\xff\xfe", b"width = 32\n", b""])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.toml"):
        read_config(path, TrainConfig)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone"):
        read_config(tmp_path / "gone.toml", TrainConfig)


def test_an_existing_file_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    write_config(PLAIN, tmp_path / "config.toml")
    with pytest.raises(OutputError):
        write_config(replace(PLAIN, width=8), tmp_path / "config.toml", overwrite=False)
    assert read_config(tmp_path / "config.toml", TrainConfig) == PLAIN
