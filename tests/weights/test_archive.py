"""One file from a machine with a network to one without: it comes back whole, or nothing of it does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_entry import ABOUT, make_entry, package_bytes, safetensors_bytes

from imputer.errors import ModelError, OutputError
from imputer.weights import archive, store
from imputer.weights.manifest import Embedded, Entry, HubFile, Imported, ImportOnly, entries, parse, render

ROOT = Path(__file__).resolve().parents[2]
CONTENT = package_bytes()
HUB = HubFile("owner/repo", "c" * 40, "model.safetensors")
EMBEDDED = next(entry for entry in entries() if isinstance(entry.home, Embedded))
Members = list[tuple[zipfile.ZipInfo, bytes]]


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test, not yet made, and no way out."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.delenv("IMPUTER_WEIGHTS_PATH", raising=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "here"))


def put(entry: Entry, content: bytes = CONTENT) -> Entry:
    """Put a model into the cache, as a download or an import does."""
    path = store.target_path(entry.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return entry


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound archive, on a machine that does not have the model yet."""
    path = archive.export(put(make_entry(CONTENT)), tmp_path / "mine.zip", overwrite=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "there"))
    return path


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as file:
        return [(member, file.read(member)) for member in file.infolist()]


def written_again(path: Path, members: Members) -> Path:
    """Write an archive with these members, whatever is wrong with them."""
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members:
            file.writestr(member, content)
    return path


def refusal(path: Path, error: type[ModelError] | type[OutputError] = ModelError) -> str:
    """The sentence about an archive that is not taken in; it stays as it is, and the cache as it was."""
    before, cache = path.read_bytes(), contents()
    with pytest.raises(error) as caught:
        archive.take_in(path, overwrite=False)
    assert path.read_bytes() == before
    assert contents() == cache
    assert str(caught.value).isprintable()
    return str(caught.value)


def contents() -> dict[str, bytes]:
    """All files of the cache but the locks, which are empty and stay."""
    files = [path for path in store.home().rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(store.home())): path.read_bytes() for path in files}


def test_a_model_comes_over_with_all_that_is_known_of_it(written: Path) -> None:
    entry = make_entry(CONTENT)
    found = archive.take_in(written, overwrite=False)
    assert replace(found, home=entry.home) == entry
    assert store.registered() == (found,)
    assert store.verified(found) == store.target_path(entry.sha256)
    assert store.verified(found).read_bytes() == CONTENT
    assert sorted(contents()) == [f"models/{entry.sha256}.safetensors", "registry/mine.toml"]


def test_a_model_of_the_hub_goes_by_its_id_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = put(make_entry(CONTENT, home=HUB))
    path = archive.export(entry, tmp_path / "hub.zip", overwrite=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "there"))
    taken = archive.take_in(path, overwrite=False)
    assert taken == replace(entry, home=Imported(store.target_path(entry.sha256)))
    assert store.registered() == (taken,)


def test_a_model_that_comes_with_imputer_is_not_registered_again(tmp_path: Path) -> None:
    path = archive.export(EMBEDDED, tmp_path / "embedded.zip", overwrite=False)
    assert archive.take_in(path, overwrite=False) == EMBEDDED
    assert contents() == {}


def test_the_same_model_gives_the_same_bytes_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = archive.export(put(make_entry(CONTENT)), tmp_path / "first.zip", overwrite=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "there"))
    again = archive.export(archive.take_in(first, overwrite=False), tmp_path / "again.zip", overwrite=False)
    assert again.read_bytes() == first.read_bytes()


def test_the_archive_says_what_it_is_to_those_who_open_it(written: Path) -> None:
    members = {member.filename: content.decode() for member, content in members_of(written)[:3]}
    assert sorted(members) == ["CARD.md", "LICENCE.txt", "imputer.toml"]
    assert "-m mine" in members["CARD.md"] and "OWNER/REPO" not in members["CARD.md"]
    assert "`@`" not in members["CARD.md"]
    for word in ("CC-BY-4.0", "CC-BY-NC-4.0", "Non-commercial use only", "“nowhere”"):
        assert word in members["LICENCE.txt"]
    assert parse(members["imputer.toml"], "index")[0].id == "mine"
    with zipfile.ZipFile(written) as file:
        assert file.testzip() is None
        assert {member.compress_type for member in file.infolist()} == {zipfile.ZIP_STORED}


def test_taking_in_twice_changes_nothing(written: Path) -> None:
    found = archive.take_in(written, overwrite=False)
    before = {path: path.stat().st_mtime_ns for path in store.home().rglob("*.*")}
    assert archive.take_in(written, overwrite=False) == found
    assert {path: path.stat().st_mtime_ns for path in store.home().rglob("*.*")} == before


def test_a_damaged_file_in_the_cache_is_mended(written: Path) -> None:
    found = archive.take_in(written, overwrite=False)
    store.target_path(found.sha256).write_bytes(package_bytes(1))
    archive.take_in(written, overwrite=False)
    assert store.verified(found).read_bytes() == CONTENT


def test_an_id_that_is_taken_is_kept_unless_told(written: Path) -> None:
    other = put(make_entry(package_bytes(1)), package_bytes(1))
    store.register(other, overwrite=False)
    assert "mine is registered already" in refusal(written, OutputError)
    found = archive.take_in(written, overwrite=True)
    assert store.registered() == (found,)
    assert sorted(contents()) == [f"models/{found.sha256}.safetensors", "registry/mine.toml"]


def test_an_id_of_imputer_itself_is_not_taken(written: Path) -> None:
    members = members_of(written)
    members[0] = (members[0][0], members[0][1].replace(b'"mine"', f'"{EMBEDDED.id}"'.encode()))
    assert f"{EMBEDDED.id} comes with imputer" in refusal(written_again(written, members))


def test_an_archive_on_a_read_only_medium_is_enough(written: Path) -> None:
    medium = written.parent / "medium"
    medium.mkdir()
    place = written.rename(medium / written.name)
    place.chmod(0o444)
    medium.chmod(0o555)
    before = (medium.stat().st_mtime_ns, place.stat().st_mtime_ns)
    try:
        archive.take_in(place, overwrite=False)
        assert (medium.stat().st_mtime_ns, place.stat().st_mtime_ns) == before
        assert [path.name for path in medium.iterdir()] == [place.name]
    finally:
        medium.chmod(0o755)


@pytest.mark.parametrize("step", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_flipped_bit_is_noticed(written: Path, step: float) -> None:
    content = bytearray(written.read_bytes())
    content[int(step * len(content))] ^= 4
    written.write_bytes(content)
    try:
        found = archive.take_in(written, overwrite=False)
    except ModelError:
        assert contents() == {}
    else:  # a bit of the time or the like, which is no part of the model
        assert replace(found, home=make_entry(CONTENT).home) == make_entry(CONTENT)
        assert store.verified(found).read_bytes() == CONTENT


@pytest.mark.parametrize("place", [9, 30, -1])
def test_a_flipped_bit_in_the_weights_is_refused(written: Path, place: int) -> None:
    content = bytearray(written.read_bytes())
    start = content.index(CONTENT)
    content[start + place % len(CONTENT)] ^= 1
    written.write_bytes(content)
    assert "damaged" in refusal(written)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1, -30])
def test_a_truncated_archive_is_refused(written: Path, kept: float) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "cut off, or of another kind" in refusal(written)


def test_a_file_of_another_kind_is_refused(written: Path) -> None:
    for content in (b"nonsense" * 1000, CONTENT, b"PK\x05\x06" + bytes(18)):
        written.write_bytes(content)
        assert "mine.zip is not a usable model archive" in refusal(written)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.zip .* does not exist"):
        archive.take_in(tmp_path / "gone.zip", overwrite=False)
    with pytest.raises(ModelError, match="no ordinary file"):
        archive.take_in(tmp_path, overwrite=False)


@pytest.mark.parametrize("number", range(4))
def test_a_missing_member_is_refused(written: Path, number: int) -> None:
    members = members_of(written)
    gone = members.pop(number)[0].filename
    said = refusal(written_again(written, members))
    assert ("does not hold one model" if gone.endswith(".safetensors") else f"lacks {gone}") in said


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.safetensors",
        "/etc/evil",
        "..\\evil",
        "C:\\evil",
        "models/" + "0" * 64 + ".safetensors",
        "evil.py",
        "imputer.toml/",
        "IMPUTER.TOML",
        "\x1b[2Jevil",
        "e" * 60_000,
    ],
)
def test_an_extra_member_is_refused(written: Path, name: str) -> None:
    said = refusal(written_again(written, [*members_of(written), (zipfile.ZipInfo(name), b"evil")]))
    assert "no part of a model" in said or "too many members" in said
    assert len(said) < 300


def test_a_traversal_in_the_place_of_the_weights_is_refused(written: Path) -> None:
    *texts, (weights, content) = members_of(written)
    weights.filename = f"../../{weights.filename}"
    assert "no part of a model" in refusal(written_again(written, [*texts, (weights, content)]))
    assert not (store.home().parent.parent / Path(weights.filename).name).exists()


def test_a_second_model_is_refused(written: Path) -> None:
    extra = (zipfile.ZipInfo("0" * 64 + ".safetensors"), CONTENT)
    assert "does not hold one model" in refusal(written_again(written, [*members_of(written), extra]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(written: Path) -> None:
    members = members_of(written)
    assert "twice" in refusal(written_again(written, [*members, members[-1]]))


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_a_link_or_a_device_is_refused(written: Path, number: int, kind: int) -> None:
    members = members_of(written)
    members[number][0].external_attr = (kind | 0o777) << 16
    assert "no plain file" in refusal(written_again(written, members))


def test_a_compressed_member_is_refused_unread(written: Path) -> None:
    *texts, (weights, _) = members_of(written)
    weights.compress_type = zipfile.ZIP_DEFLATED
    bomb = written_again(written, [*texts, (weights, bytes(200_000_000))])
    assert bomb.stat().st_size < 1_000_000
    tracemalloc.start()
    assert "is compressed" in refusal(bomb)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def change_sizes(path: Path, number: int, size: int) -> None:
    """Let both records of a member claim another size."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        member = file.infolist()[number]
        start = file.start_dir
    struct.pack_into("<2L", content, member.header_offset + 18, size, size)
    for _ in range(number):
        start += 46 + sum(struct.unpack_from("<3H", content, start + 28))
    struct.pack_into("<2L", content, start + 20, size, size)
    path.write_bytes(content)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("size", [0, 2**32 - 2])
def test_absurd_sizes_are_refused_unread(written: Path, number: int, size: int) -> None:
    change_sizes(written, number, size)
    tracemalloc.start()
    refusal(written)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_an_index_that_claims_another_size_is_refused_before_the_weights_are_read(written: Path) -> None:
    (index, text), *others = members_of(written)
    for claim in (0, 1, 10**15):
        lie = text.replace(f"bytes = {len(CONTENT)}".encode(), f"bytes = {claim}".encode())
        assert lie != text
        refusal(written_again(written, [(index, lie), *others]))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"nonsense",
        lambda text: b"\xff" + text,
        lambda text: b"format = 2\nmodel = []",
        lambda text: text + text.replace(b"format = 2", b"").replace(b'"mine"', b'"other"'),
        lambda text: text.replace(b"sha256 = ", b"sha256 = 3 #"),
        lambda text: text.replace(b'"mine"', b'"../mine"'),
        lambda text: render([theirs()]).encode(),
    ],
    ids=["junk", "bytes", "empty", "two", "type", "traversal", "import-only"],
)
def test_an_index_that_is_none_is_refused(written: Path, change: Callable[[bytes], bytes]) -> None:
    (index, text), *others = members_of(written)
    refusal(written_again(written, [(index, change(text)), *others]))


def theirs() -> Entry:
    return next(entry for entry in entries() if isinstance(entry.home, ImportOnly))


def test_weights_whose_header_lies_are_refused(tmp_path: Path) -> None:
    lie = safetensors_bytes({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, bytes(40))
    entry = make_entry(lie)
    (info, _), *texts, (weights, _) = members_of(
        archive.export(put(make_entry(CONTENT)), tmp_path / "a.zip", overwrite=False)
    )
    weights.filename = f"{entry.sha256}.safetensors"
    path = written_again(tmp_path / "lie.zip", [(info, render([entry]).encode()), *texts, (weights, lie)])
    assert "lie.zip is not a readable safetensors file: tensor 'a'" in refusal(path)
    put(entry, lie)
    with pytest.raises(ModelError, match="mine is not a readable safetensors file"):
        archive.export(entry, tmp_path / "b.zip", overwrite=False)
    assert not (tmp_path / "b.zip").exists()


def test_a_long_list_of_members_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(20_000):
            file.writestr(zipfile.ZipInfo(str(number)), b"")
    tracemalloc.start()
    assert "too many members" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size
    tracemalloc.stop()


def test_a_zip_of_the_64_bit_kind_is_taken_in(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as of a model of more than 4 GB; the limit is moved, as such a file is too large for a test."""
    members = members_of(written)
    for member, _ in members:
        member.extra = b""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(written, "w") as file:
        for member, text in members:
            file.writestr(member, text)
    content = bytearray(written.read_bytes())
    assert content[-42:-38] == b"PK\x06\x07"
    monkeypatch.undo()
    monkeypatch.setenv("IMPUTER_HOME", str(written.parent / "there"))
    content[-98 + 40 : -98 + 48] = (10**12).to_bytes(8, "little")
    lying = written.with_name("lying.zip")
    lying.write_bytes(content)
    assert "too many members" in refusal(lying)
    assert archive.take_in(written, overwrite=False).id == "mine"


def test_what_is_not_here_or_not_ours_is_not_exported(tmp_path: Path) -> None:
    for entry in (make_entry(CONTENT), theirs()):
        with pytest.raises(ModelError, match="is not usable"):
            archive.export(entry, tmp_path / "out.zip", overwrite=False)
    put(make_entry(CONTENT), package_bytes(1))
    with pytest.raises(ModelError, match="SHA-256"):
        archive.export(make_entry(CONTENT), tmp_path / "out.zip", overwrite=False)
    assert not (tmp_path / "out.zip").exists()


def test_an_output_is_kept_unless_told(tmp_path: Path) -> None:
    entry = put(make_entry(CONTENT))
    out = tmp_path / "out.zip"
    out.write_text("precious")
    with pytest.raises(OutputError):
        archive.export(entry, out, overwrite=False)
    assert out.read_text() == "precious"
    archive.export(entry, out, overwrite=True)
    assert zipfile.is_zipfile(out)
    with pytest.raises(OutputError):
        archive.export(entry, tmp_path / "nowhere" / "out.zip", overwrite=False)


FULL = """
import os, subprocess, sys
from pathlib import Path
disk, cache = Path(sys.argv[1]), Path(sys.argv[2])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode:
    sys.exit(77)
from tiny_entry import make_entry
from imputer.errors import ImputerError
from imputer.weights import archive, store

def fill(but: int) -> None:
    (disk / "filler").write_bytes(b"")
    about = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(about.f_bavail * about.f_frsize - but))

content = Path(sys.argv[3]).read_bytes()
entry = make_entry(content)
os.environ["IMPUTER_HOME"] = str(cache)
store.target_path(entry.sha256).parent.mkdir(parents=True)
store.target_path(entry.sha256).write_bytes(content)
path = archive.export(entry, cache / "out.zip", overwrite=False)
for place, but in ((disk, 0), (disk, len(content)), (cache, len(content))):
    os.environ["IMPUTER_HOME"] = str(place)
    fill(but)
    try:
        if place == disk:
            archive.take_in(path, overwrite=False)
        else:
            archive.export(entry, disk / "out.zip", overwrite=False)
    except ImputerError as error:
        print(error.exit_code, error.message)
    print(*sorted(file.name for file in disk.rglob("*") if file.is_file() and file.stat().st_size))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own, by unshare(1)")
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = 4096
    header = {"a": {"dtype": "U8", "shape": [80 * page], "data_offsets": [0, 80 * page]}}
    header |= {"__metadata__": {"imputer": json.dumps(ABOUT)}}
    size = page - 8  # so that the file ends with a page, and the third step has room for it and for nothing else
    (tmp_path / "model").write_bytes(safetensors_bytes(json.dumps(header).encode().ljust(size), bytes(80 * page)))
    (tmp_path / "disk").mkdir()
    monkeypatch.undo()  # the network is of no concern to another process
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", FULL]
    done = subprocess.run(
        [*command, tmp_path / "disk", tmp_path / "cache", tmp_path / "model"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("this machine mounts nothing for us")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 The model needs 0.3 MB, and 0.0 MB are free")
    assert lines[2].startswith("4 No space is left to write mine.toml")
    assert lines[4].startswith("6 No space is left to write out.zip")
    assert lines[1::2] == ["filler"] * 3
