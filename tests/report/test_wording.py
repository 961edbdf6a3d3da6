"""Messages on the report page: no name of a file, and the rest as it was."""

from __future__ import annotations

import pytest

from imputer.report.wording import without_names

NAMES = {"Meier Anna": "the source", "anna_t1.nii.gz": "the source", "anna_t1_synth-t2.nii.gz": "the result"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("anna_t1.nii.gz is damaged: it ends early. Copy it.", "The source is damaged: it ends early. Copy it."),
        ("anna_t1_synth-t2.nii.gz is gone.", "The result is gone."),
        ("The folder Meier Anna holds two series.", "The folder the source holds two series."),
        ("It broke. Meier Berta t1.nii.gz is no volume.", "It broke. A file is no volume."),
        (
            "Two files are its t1: Anna M t1.nii.gz and Berta M t1.nii.gz; neither is taken.",
            "Two files are its t1: files; neither is taken.",
        ),
        ("Not in /data/anna/t1.nii.gz, not in C:\\scans\\anna.", "Not in a folder, not in a folder"),
        ("pixels of 1.5 x 2.25 mm are outside the 1 to 2 mm", "Pixels of 1.5 x 2.25 mm are outside the 1 to 2 mm"),
        ("There is no model from t1/t2 to flair.", "There is no model from t1/t2 to flair."),
        ("'imputer synth' on the case shows it (ValueError).", "'imputer synth' on the case shows it (ValueError)."),
        ("", ""),
    ],
)
def test_names_of_files_are_left_out(text: str, shown: str) -> None:
    assert without_names(text, NAMES) == shown


def test_a_message_without_end_is_cut() -> None:
    assert len(without_names("word " * 10_000, {})) < 700
