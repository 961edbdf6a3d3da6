"""A round trip through a real PACS: Orthanc, on this machine's loopback, with a folder and ports of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_phantom import make_series
from dicom_tools import files_in, need, read, synthesis
from pydicom import Dataset

from imputer.io.dicom.write import write_dicom
from imputer.modality import Modality

CALLER, ORTHANC = "IMPUTERTEST", "ORTHANCTEST"
TOOLS = ("Orthanc", "echoscu", "storescu", "findscu", "getscu")
STARTS_WITHIN = 30.0  # seconds


@dataclass
class Pacs:
    """A running server."""

    dicom_port: int
    http_port: int

    def scu(self, program: str, *options: str | Path, files: Path | None = None) -> str:
        """What one of DCMTK's clients says; it must succeed."""
        command = [program, "-v", "-aet", CALLER, "-aec", ORTHANC, *options, "127.0.0.1", str(self.dicom_port)]
        command += [] if files is None else [files]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rest(self, path: str, body: Any = None) -> Any:
        """Answer of the REST interface: JSON, or bytes of a file."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            content = answer.read()
        return content if path.endswith("/file") else json.loads(content)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    for tool in TOOLS:
        need(tool)
    folder = tmp_path_factory.mktemp("orthanc")
    server = Pacs(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "TemporaryDirectory": str(folder),
        "Plugins": [],
        "HttpPort": server.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": ORTHANC,
        "DicomPort": server.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {"test": [CALLER, "127.0.0.1", 1]},
        "ConcurrentJobs": 1,
        "DicomThreadsCount": 1,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [need("Orthanc"), str(folder / "settings.json")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        try:
            _wait(server, process, folder / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Pacs, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            server.rest("/system")
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def folders(pacs: Pacs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source, and an MR and a CT derived from it; all stored."""
    root = tmp_path_factory.mktemp("series")
    folders = {name: root / name for name in ("source", "mr", "ct")}
    make_series(folders["source"], shape=(20, 16, 12))
    volume, like = read(folders["source"])
    write_dicom(volume, folders["mr"], like=like, synthesis=synthesis())
    write_dicom(volume, folders["ct"], like=like, synthesis=synthesis(Modality.CT))
    assert "Received Echo Response (Success)" in pacs.scu("echoscu")
    for folder in folders.values():
        pacs.scu("storescu", "-R", "+sd", files=folder)  # only the contexts that the files need
    return folders


def datasets(folder: Path) -> dict[str, Dataset]:
    return {str(image.SOPInstanceUID): image for image in map(pydicom.dcmread, files_in(folder))}


def test_the_three_series_are_one_study_of_one_patient(pacs: Pacs, folders: dict[str, Path]) -> None:
    counts = pacs.rest("/statistics")
    kinds = ("CountPatients", "CountStudies", "CountSeries", "CountInstances")
    assert [counts[kind] for kind in kinds] == [1, 1, 3, 36]
    found = pacs.rest("/tools/find", {"Level": "Series", "Query": {"SeriesDescription": "SYNTHETIC*"}, "Expand": True})
    told = {(entry["MainDicomTags"]["Modality"], entry["MainDicomTags"]["SeriesDescription"]) for entry in found}
    assert told == {
        ("MR", "SYNTHETIC T2w from T1w - NOT FOR DIAGNOSIS"),
        ("CT", "SYNTHETIC CT from T1w - NOT FOR DIAGNOSIS"),
    }
    assert {len(entry["Instances"]) for entry in found} == {12}


def test_a_query_finds_the_series(pacs: Pacs, folders: dict[str, Path], tmp_path: Path) -> None:
    one = pydicom.dcmread(files_in(folders["mr"])[0])
    keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={one.StudyInstanceUID}", "SeriesInstanceUID", "Modality")
    arguments = [part for key in (*keys, "SeriesDescription") for part in ("-k", key)]
    pacs.scu("findscu", "-S", "-X", "-od", tmp_path, *arguments)
    answers = [pydicom.dcmread(path, force=True) for path in files_in(tmp_path)]
    assert len(answers) == 3
    (found,) = [answer for answer in answers if answer.SeriesInstanceUID == one.SeriesInstanceUID]
    assert (found.Modality, found.SeriesDescription) == (one.Modality, one.SeriesDescription)


@pytest.mark.parametrize("name", ["mr", "ct"])
def test_what_is_fetched_is_what_was_stored(name: str, pacs: Pacs, folders: dict[str, Path], tmp_path: Path) -> None:
    sent = datasets(folders[name])
    series = next(iter(sent.values())).SeriesInstanceUID
    study = next(iter(sent.values())).StudyInstanceUID
    keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}")
    pacs.scu("getscu", "-S", "-od", tmp_path, *(part for key in keys for part in ("-k", key)))
    assert datasets(tmp_path) == sent
    assert all(image.SyntheticData == "YES" for image in sent.values())


def test_the_file_itself_comes_back_by_rest(pacs: Pacs, folders: dict[str, Path]) -> None:
    path = files_in(folders["mr"])[0]
    uid = pydicom.dcmread(path).SOPInstanceUID
    (identifier,) = pacs.rest("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": str(uid)}})
    stored = pacs.rest(f"/instances/{identifier}/file")
    after_meta = path.read_bytes().index(b"\x08\x00\x05\x00CS")
    assert stored.endswith(path.read_bytes()[after_meta:])  # Orthanc may write the meta information anew
