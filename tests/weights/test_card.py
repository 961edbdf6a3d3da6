"""The model card: what the Hub reads at its head, and what a reader has to find below."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from imputer.errors import ModelError
from imputer.modality import Modality, guess_modality, parse_modality
from imputer.weights.card import card
from imputer.weights.manifest import Entry, Licence, Score, entries
from imputer.weights.package import ANY_MM

EMBEDDED = [entry for entry in entries() if entry.embedded and entry.method == "syndiff" and len(entry.sources) == 1]
ONE = replace(
    EMBEDDED[0],
    scores=(Score("my patients", "anna", "PSNR (dB)", 25.1, 20.0, "mapping"), Score("my patients", "b|b", "SSIM", 0.9)),
)


def sections(text: str) -> dict[str, str]:
    """The parts of a card below their headings."""
    heads = re.split(r"(?m)^## (.*)$", text)
    return dict(zip(heads[1::2], heads[2::2], strict=True))


def licensed(weights: str, *, non_commercial: bool = False) -> Entry:
    return replace(ONE, licence=Licence("Apache-2.0", weights, "CC0", non_commercial))


def test_the_head_is_what_the_hub_reads() -> None:
    head = ModelCard(card([ONE])).data
    assert (head.license, head.library_name, head.pipeline_tag) == ("cc-by-4.0", "imputer", "image-to-image")
    assert head.tags is not None
    assert {"mri", "syndiff", "t1", "t2"} <= set(head.tags)
    assert len(set(head.tags)) == len(head.tags)


@pytest.mark.parametrize(
    "models",
    [
        [licensed("not stated")],
        [licensed("evil\nlicense: mit")],
        [licensed("MIT"), replace(licensed("Apache-2.0"), id="second")],
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_other(models: list[Entry]) -> None:
    head = ModelCard(card(models)).data
    assert (head.license, head.license_name) == ("other", "see-model-card")


def test_a_card_says_what_must_be_said() -> None:
    text = card([ONE])
    parts = sections(text)
    assert text.index("Synthetic images, not for diagnosis") < text.index("## What it makes")
    assert "not for diagnosis" in parts["Intended use and limits"]
    assert ONE.trained_on in parts["Training data"]
    assert ONE.citation in parts["Citation"]
    for licence in (ONE.licence.code, ONE.licence.weights, ONE.licence.data):
        assert licence in parts["Licence"]
    assert "brain" in parts["Scope"] and "size of pixels 0.71 to 1 mm, of slices 1 to 3 mm" in parts["Scope"]
    assert ONE.sha256 in parts["Files"] and str(ONE.bytes) in parts["Files"]


def test_the_scores_stand_in_a_table() -> None:
    lines = sections(card([ONE]))["Scores"].strip().splitlines()
    assert lines[2] == "| `syndiff-t1-t2` | my patients | anna | PSNR (dB) | 25.10 | 20.00 mapping |"
    assert lines[3] == r"| `syndiff-t1-t2` | my patients | b\|b | SSIM | 0.900 |  |"
    assert "None were measured" in sections(card([replace(ONE, scores=())]))["Scores"]


def test_the_example_runs_each_pair() -> None:
    code = re.search(r"```bash\n(.*?)\n```", card(EMBEDDED, "anna/models"), re.DOTALL)
    assert code is not None
    pairs = []
    for line in code[1].splitlines():
        program, command, source, to, target, model, name = shlex.split(line)
        assert (program, command, to, model, name) == ("imputer", "synth", "--to", "-m", "hf://anna/models")
        pairs.append((parse_modality(source.removesuffix(".nii.gz")), parse_modality(target)))
    assert pairs == [(entry.sources[0], entry.targets[0]) for entry in EMBEDDED]


def test_a_model_of_many_pairs_has_one_command_for_each_source() -> None:
    classes = (Modality.T1, Modality.T1CE, Modality.T2)
    many = replace(ONE, method="aldm", sources=classes[:2], targets=classes)
    text = card([many], "anna/models")
    assert "| T1, T1CE | T1, T1CE, T2 |" in text
    code = re.search(r"```bash\n(.*?)\n```", text, re.DOTALL)
    assert code is not None
    assert code[1].splitlines() == [
        "imputer synth t1.nii.gz --to t1ce --to t2 -m hf://anna/models",
        "imputer synth t1ce.nii.gz --to t1 --to t2 -m hf://anna/models",
    ]
    head = ModelCard(text).data
    assert head.tags is not None and len(set(head.tags)) == len(head.tags)


def test_the_name_of_the_input_tells_its_modality() -> None:
    assert guess_modality(Path("t1.nii.gz")) == Modality.T1
    assert "imputer synth t1.nii.gz --to t2 -m hf://OWNER/REPO" in card([ONE])


def test_non_commercial_weights_are_named_as_such() -> None:
    assert "Not for commercial use" in sections(card([licensed("CC-BY-NC-4.0", non_commercial=True)]))["Licence"]
    assert "Not for commercial use" not in card([ONE])


def test_several_models_share_a_card() -> None:
    text = card(EMBEDDED)
    parts = sections(text)
    for entry in EMBEDDED:
        for part in ("What it makes", "Scope", "Scores", "Licence", "Files"):
            assert f"`{entry.id}`" in parts[part]
    assert parts["Citation"].strip() == EMBEDDED[0].citation  # said once
    other = replace(EMBEDDED[1], citation="Somebody else")
    assert f"- `{other.id}`: Somebody else" in sections(card([EMBEDDED[0], other]))["Citation"]


def test_texts_of_others_do_not_change_the_page() -> None:
    nasty = replace(
        ONE, title="x\n---\nlicense: mit\n## Scores", citation="<script>alert(1)</script>\n\n## Licence\nfree"
    )
    text = card([nasty])
    assert ModelCard(text).data.license == "cc-by-4.0"
    assert list(sections(text)) == list(sections(card([ONE])))
    assert "<script" not in text


def test_sizes_that_a_package_does_not_state_are_not_made_up() -> None:
    silent = replace(ONE, scope=replace(ONE.scope, pixel_mm=ANY_MM, slice_mm=ANY_MM))
    assert "size of pixels not stated, of slices not stated" in sections(card([silent]))["Scope"]


@pytest.mark.parametrize("models", [[], [entries()[-1]], [ONE, entries()[-1]]])
def test_no_card_without_a_file(models: list[Entry]) -> None:
    with pytest.raises(ModelError, match="card"):
        card(models)


def test_the_command_of_a_model_of_several_sources_gives_it_all_of_them() -> None:
    joint = replace(ONE, sources=(Modality.T1, Modality.T2), targets=(Modality.FLAIR,), required=())
    text = card([joint])
    assert "imputer synth t1=t1.nii.gz t2=t2.nii.gz --to flair -m hf://OWNER/REPO" in text
    assert "T1 + T2 or fewer" in text
