"""The manifest's format: what is written is read back, and the first thing wrong in a file of anybody's is named."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imputer.errors import ModelError, OutputError
from imputer.modality import Modality
from imputer.weights import manifest
from imputer.weights.manifest import Embedded, Entry, HubFile, Imported, ImportOnly, Licence, Scope, Score
from imputer.weights.measured import Measured

REVISION = "0123456789abcdef" * 2 + "01234567"
ENTRY = Entry(
    id="mine-t1-t2",
    method="syndiff",
    sources=(Modality.T1,),
    targets=(Modality.T2,),
    title="Mine",
    version="1",
    trained_on="my data",
    citation="me",
    scope=Scope("brain", "yes", (0.5, 1.0), (1.0, 4.0)),
    home=HubFile("owner/name", REVISION, "models/mine.safetensors"),
    licence=Licence("Apache-2.0", "CC-BY-4.0", "CC0", False),
    bytes=12,
    sha256="ab" * 32,
    scores=(Score("my data", "anna", "PSNR (dB)", 25.0, 20.0, "mapping"), Score("my data", "bert", "SSIM", 0.9)),
    fingerprints=("0123456789abcdef", "fedcba9876543210"),
    measured=(Measured(Modality.T1, True, 3, ((0.5, 0.75),) * 4, (90.0, 140.0), (150.0, 160.0), (-0.75, -0.25)),),
)
EMBEDDED = replace(ENTRY, home=Embedded("imputer/assets/mine.safetensors"))
TO_IMPORT = replace(ENTRY, home=ImportOnly("By hand.\nThen import.", "https://example.org/x"), bytes=0, sha256="")

# Everything but control characters, invisible formatting and halves of pairs; line feed and tab are kept.
SIGNS = st.characters(exclude_categories=("Cc", "Cf", "Cs")) | st.sampled_from("\n\t\"'\\#=[]")
TEXTS = st.text(SIGNS, min_size=1, max_size=20).filter(str.strip)
HEX = "0123456789abcdef"
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SPANS = st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)).map(lambda ends: (min(ends), max(ends)))
NAMES = st.text(string.ascii_letters + string.digits, min_size=1, max_size=9)
FILES = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".safetensors")
MODALITIES = st.lists(st.sampled_from(Modality), min_size=1, max_size=6, unique=True).map(tuple)
HOMES = st.one_of(
    st.builds(Embedded, FILES),
    st.builds(HubFile, st.builds("{}/{}".format, NAMES, NAMES), st.text(HEX, min_size=40, max_size=40), FILES),
    st.builds(ImportOnly, TEXTS, NAMES.map("https://example.org/{}".format)),
    TEXTS.map(lambda text: Imported(Path("/somewhere") / text.replace("\n", " "))),
)
RECORDS = st.builds(
    Entry,
    id=NAMES,
    method=st.sampled_from(manifest.METHODS),
    sources=MODALITIES,
    targets=MODALITIES,
    title=TEXTS,
    version=TEXTS,
    trained_on=TEXTS,
    citation=TEXTS,
    scope=st.builds(Scope, TEXTS, st.sampled_from(manifest.SKULL_STRIPPED), SPANS, SPANS, st.just("") | TEXTS),
    home=HOMES,
    licence=st.builds(Licence, TEXTS, TEXTS, TEXTS, st.booleans()),
    bytes=st.integers(1, 2**63 - 1),
    sha256=st.text(HEX, min_size=64, max_size=64),
    scores=st.lists(
        st.builds(Score, TEXTS, TEXTS, st.sampled_from(manifest.METRICS), NUMBERS, st.none() | NUMBERS, TEXTS),
        max_size=2,
    ).map(tuple),
    fingerprints=st.lists(st.text(HEX, min_size=16, max_size=16), max_size=3, unique=True).map(tuple),
    measured=st.lists(
        st.builds(
            Measured,
            st.sampled_from(Modality),
            st.booleans(),
            st.integers(1, 999),
            st.tuples(*[SPANS] * 4),
            *[SPANS] * 3,
        ),
        max_size=2,
    ).map(tuple),
).map(lambda entry: entry if entry.is_runnable else replace(entry, bytes=0, sha256=""))


@given(st.lists(RECORDS, max_size=3, unique_by=lambda entry: entry.id))
def test_what_is_written_is_read_back(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imputer.toml"
        manifest.write(path, entries)
        assert manifest.read(path) == tuple(entries)
        assert b"\r" not in path.read_bytes()
        assert [each.name for each in Path(folder).iterdir()] == ["imputer.toml"]


def test_the_shipped_manifest_survives_the_round_trip(tmp_path: Path) -> None:
    manifest.write(tmp_path / "copy.toml", manifest.entries())
    assert manifest.read(tmp_path / "copy.toml") == manifest.entries()


def test_a_manifest_of_before_has_no_fingerprints() -> None:
    text = text_of(ENTRY, 'fingerprints = ["0123456789abcdef", "fedcba9876543210"]\n', "")
    assert manifest.parse(text, "old.toml") == (replace(ENTRY, fingerprints=()),)
    assert manifest.render([replace(ENTRY, fingerprints=())]) == text


def test_fingerprints_do_not_fill_the_memory() -> None:
    many = tuple(f"{number:016x}" for number in range(manifest.MOST_FINGERPRINTS + 1))
    with pytest.raises(ModelError, match="field fingerprints: must have 20000 at most"):
        manifest.parse(manifest.render([replace(ENTRY, fingerprints=many)]), "some.toml")
    text = manifest.render([replace(ENTRY, fingerprints=many[1:])])
    assert manifest.parse(text, "some.toml")[0].fingerprints == many[1:]
    assert len(text) < manifest.LARGEST / 4


def test_an_entry_tells_its_pair_and_home() -> None:
    assert (ENTRY.pair, ENTRY.is_runnable, ENTRY.embedded) == ("t1->t2", True, False)
    assert (EMBEDDED.is_runnable, EMBEDDED.embedded) == (True, True)
    assert (TO_IMPORT.is_runnable, TO_IMPORT.embedded) == (False, False)
    both = replace(ENTRY, sources=(Modality.T1, Modality.PD))
    assert (both.pair, both.source_text, both.target_text) == ("t1+pd->t2", "t1 + pd", "t2")
    either = replace(both, method="aldm", targets=(Modality.PD, Modality.T2))
    assert (either.pair, either.source_text, either.target_text) == ("t1/pd->pd/t2", "t1, pd", "pd, t2")


def text_of(entry: Entry, old: str, new: str) -> str:
    """The text of a manifest of one entry, one place of it changed."""
    text = manifest.render([entry])
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("entry", "old", "new", "field", "problem"),
    [
        # missing, unknown, of the wrong type
        (ENTRY, 'id = "mine-t1-t2"\n', "", "id", "missing"),
        (ENTRY, 'title = "Mine"\n', "", "title", "missing"),
        (ENTRY, 'anatomy = "brain"\n', "", "scope.anatomy", "missing"),
        (ENTRY, "value = 0.9\n", "", "score.value", "missing"),
        (ENTRY, "bytes = 12\n", "", "bytes", "missing"),
        (ENTRY, "[model.licence]", "[model.license]", "licence", "missing"),
        (ENTRY, 'title = "Mine"', 'title = "Mine"\ncolour = "red"', "colour", "unknown"),
        (ENTRY, 'kind = "hub"', 'kind = "hub"\nport = 3', "home.port", "unknown"),
        (ENTRY, 'title = "Mine"', '"\\u001b[31m" = 1\ntitle = "Mine"', r"'\\x1b\[31m'", "unknown"),
        (ENTRY, 'title = "Mine"', "title = 7", "title", "7 is not a text"),
        (ENTRY, 'title = "Mine"', 'title = " "', "title", "empty"),
        (ENTRY, 'title = "Mine"', f"title = [{'[' * 90}{']' * 90}]", "title", r"\.\.\. is not a text"),
        (ENTRY, "bytes = 12", 'bytes = "12"', "bytes", "'12' is not a whole number"),
        (ENTRY, "bytes = 12", "bytes = true", "bytes", "True is not a whole number"),
        (ENTRY, "non_commercial = false", "non_commercial = 0", "licence.non_commercial", "0 is not true or false"),
        (ENTRY, 'sources = ["t1"]', 'sources = "t1"', "sources", "not a list"),
        (ENTRY, "value = 0.9", "value = nan", "score.value", "not a finite number"),
        (ENTRY, "baseline = 20.0", "baseline = inf", "score.baseline", "not a finite number"),
        (ENTRY, "value = 0.9", f"value = {10**400}", "score.value", "not a number"),
        # values
        (ENTRY, 'id = "mine-t1-t2"', 'id = "../mine"', "id", "is not a name"),
        (ENTRY, 'id = "mine-t1-t2"', 'id = ".mine"', "id", "is not a name"),
        (ENTRY, 'id = "mine-t1-t2"', 'id = "mine\\n"', "id", "is not a name"),
        (ENTRY, 'method = "syndiff"', 'method = "magic"', "method", "'magic' is unknown; known are syndiff"),
        (ENTRY, 'sources = ["t1"]', 'sources = ["t7"]', "sources", "'t7' is unknown; known are t1"),
        (ENTRY, 'sources = ["t1"]', 'sources = ["t1w"]', "sources", "'t1w' is unknown"),
        (ENTRY, 'sources = ["t1"]', "sources = [[]]", "sources", "unknown"),
        (ENTRY, 'targets = ["t2"]', "targets = []", "targets", "one modality at least"),
        (ENTRY, 'targets = ["t2"]', 'targets = ["t2", "t2"]', "targets", "each once"),
        (ENTRY, 'skull_stripped = "yes"', 'skull_stripped = "maybe"', "scope.skull_stripped", "'maybe' is unknown"),
        (ENTRY, "pixel_mm = [0.5, 1.0]", "pixel_mm = [1.0, 0.5]", "scope.pixel_mm", "smaller one first"),
        (ENTRY, "pixel_mm = [0.5, 1.0]", "pixel_mm = [0.0, 0.5]", "scope.pixel_mm", "above 0"),
        (ENTRY, "pixel_mm = [0.5, 1.0]", "pixel_mm = [0.5, nan]", "scope.pixel_mm", "above 0"),
        (ENTRY, "pixel_mm = [0.5, 1.0]", "pixel_mm = [0.5]", "scope.pixel_mm", "two lengths"),
        (ENTRY, "pixel_mm = [0.5, 1.0]", 'pixel_mm = [0.5, "1"]', "scope.pixel_mm", "two lengths"),
        (ENTRY, "bytes = 12", "bytes = 0", "bytes", "no size"),
        (ENTRY, "bytes = 12", "bytes = -1", "bytes", "no size"),
        (ENTRY, "bytes = 12", f"bytes = {2**63}", "bytes", "no size"),
        (ENTRY, "ab" * 32, "ab" * 31, "sha256", "64 hexadecimal"),
        (ENTRY, "ab" * 32, "AB" * 32, "sha256", "64 hexadecimal"),
        (ENTRY, '["0123456789abcdef", ', '["0123456789abcde", ', "fingerprints", "'0123456789abcde' is not 16 hex"),
        (ENTRY, '["0123456789abcdef", ', '["0123456789ABCDEF", ', "fingerprints", "is not 16 hexadecimal digits"),
        (ENTRY, '["0123456789abcdef", ', "[7, ", "fingerprints", "7 is not 16 hexadecimal digits"),
        (ENTRY, '"0123456789abcdef", ', '"fedcba9876543210", ', "fingerprints", "each once"),
        (ENTRY, '["0123456789abcdef", "fedcba9876543210"]', '"0123456789abcdef"', "fingerprints", "not a list"),
        (ENTRY, "stripped = true", "stripped = 1", "measured.stripped", "1 is not true or false"),
        (ENTRY, "volumes = 3\n", "", "measured.volumes", "missing"),
        (ENTRY, "quantiles = [[0.5, 0.75], ", "quantiles = [", "measured.quantiles", "4 pairs of numbers"),
        (ENTRY, "quantiles = [[0.5, 0.75], ", "quantiles = [[0.5], ", "measured.quantiles", "two finite numbers"),
        (ENTRY, "balance = [-0.75, -0.25]", "balance = [-0.25, -0.75]", "measured.balance", "smaller one first"),
        (ENTRY, "balance = [-0.75, -0.25]", "balance = [nan, 0.5]", "measured.balance", "two finite numbers"),
        (ENTRY, "area_cm2 = [150.0, 160.0]", 'area_cm2 = [1.0, "2"]', "measured.area_cm2", "two finite numbers"),
        (ENTRY, "balance = [-0.75, -0.25]", "balance = [-0.75, -0.25]\nhue = 1", "measured.hue", "unknown"),
        (ENTRY, 'metric = "SSIM"', 'metric = "FID"', "score.metric", "'FID' is unknown"),
        (ENTRY, 'kind = "hub"', 'kind = "ftp"', "home.kind", "'ftp' is unknown"),
        (ENTRY, REVISION, "main", "home.revision", "'main' is not a commit of 40"),
        (ENTRY, REVISION, "0123abc", "home.revision", "40 hexadecimal"),
        (ENTRY, "owner/name", "name", "home.repo", "owner/name"),
        (ENTRY, "owner/name", "owner/..", "home.repo", "owner/name"),
        (TO_IMPORT, "https://", "http://", "home.url", "https"),
        (TO_IMPORT, 'title = "Mine"', 'title = "Mine"\nbytes = 3', "bytes", "unknown"),
        # what a terminal would obey
        (ENTRY, 'title = "Mine"', 'title = "Mine\\u001b[2J"', "title", "control characters"),
        (ENTRY, 'title = "Mine"', 'title = "Mine\\r"', "title", "control characters"),
        (ENTRY, 'title = "Mine"', 'title = "Mine\\u202e"', "title", "control characters"),
    ],
)
def test_the_field_that_is_wrong_is_named(entry: Entry, old: str, new: str, field: str, problem: str) -> None:
    text = text_of(entry, old, new)
    with pytest.raises(ModelError, match=rf"^some\.toml, model (mine-t1-t2|1), field {field}: .*{problem}"):
        manifest.parse(text, "some.toml")


@pytest.mark.parametrize(
    "file",
    [
        "../mine.safetensors",
        "models/../../mine.safetensors",
        "/etc/mine.safetensors",
        "models//mine.safetensors",
        "./mine.safetensors",
        "models\\\\..\\\\mine.safetensors",
        "C:/mine.safetensors",
        "",
    ],
)
@pytest.mark.parametrize("entry", [ENTRY, EMBEDDED], ids=["hub", "embedded"])
def test_a_file_stays_in_its_folder(entry: Entry, file: str) -> None:
    assert isinstance(entry.home, Embedded | HubFile)
    with pytest.raises(ModelError, match=r"model mine-t1-t2, field home\.file: .* is not a plain relative path"):
        manifest.parse(text_of(entry, entry.home.file, file), "some.toml")


def test_only_safetensors_are_weights() -> None:
    with pytest.raises(ModelError, match=r"field home\.file: 'models/mine\.pth' does not end in \.safetensors"):
        manifest.parse(text_of(ENTRY, "mine.safetensors", "mine.pth"), "some.toml")


def test_an_id_is_there_once() -> None:
    with pytest.raises(ModelError, match=r"some\.toml, model mine-t1-t2, field id: another model has the same"):
        manifest.parse(manifest.render([ENTRY, EMBEDDED]), "some.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("not toml", r"some\.toml cannot be read"),
        ("[" * 5000, r"some\.toml cannot be read"),
        ("x = " + "[" * 5000 + "]" * 5000, r"some\.toml cannot be read"),
        ("", "field format: is missing"),
        ("format = 2", "field model: is missing"),
        ("format = 2\nmodel = 3", "field model: 3 is not a list"),
        ("format = 2\nmodel = [3]", "field model: 3 is not a table"),
        ("format = 2\nmodel = []\nmore = 1", "field more: is unknown"),
        ('format = "2"\nmodel = []', "field format: '2' is not a whole number"),
        ("format = 1\nmodel = []", r"format 1; this version reads format 2\. Get the file again"),
        ("format = 3\nmodel = []", r"format 3; this version reads format 2\. Update imputer"),
    ],
)
def test_what_is_no_manifest_is_one_error(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=problem) as caught:
        manifest.read(path)
    assert str(tmp_path) not in str(caught.value)


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse: takes no room, and would not fit into memory


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "utf-8"),
        (make_huge, "4 MB"),
    ],
    ids=["missing", "folder", "binary", "huge"],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], Any], problem: str) -> None:
    path = tmp_path / "some.toml"
    make(path)
    with pytest.raises(ModelError, match=rf"some\.toml cannot be read.*{problem}") as caught:
        manifest.read(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (replace(ENTRY, title=""), "title"),
        (replace(ENTRY, title="\ud800"), "title"),
        (replace(ENTRY, sha256=""), "sha256"),
        (replace(ENTRY, licence=replace(ENTRY.licence, data="\x7f")), "licence.data"),
        (replace(ENTRY, home=HubFile("owner/name", "main", "x.safetensors")), "home.revision"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, entry: Entry, field: str) -> None:
    path = tmp_path / "some.toml"
    manifest.write(path, [ENTRY])
    with pytest.raises(ModelError, match=rf"some\.toml, model mine-t1-t2, field {field}: "):
        manifest.write(path, [entry])
    assert manifest.read(path) == (ENTRY,)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"some\.toml"):
        manifest.write(tmp_path / "absent" / "some.toml", [ENTRY])
