"""A server that speaks the Hugging Face Hub's protocol, and a forward proxy: real HTTP over loopback, faults on demand.

`HubServer` is two servers: the Hub itself, and the "CDN" on another port that the Hub redirects to for large files.
Repositories live in memory. What the tests of downloads and uploads need is there: model info, tree, paths-info,
refs, resolve, create, preupload, LFS batch, commit, whoami, tokens, private and gated repositories.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

PIECE = 1 << 16  # bytes written at once
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
LFS_FROM = 10_000_000  # bytes; binary files go to LFS whatever their size


class Blob:
    """The content of one file, and its names: git's for small text, SHA-256 for what LFS stores."""

    def __init__(self, content: bytes, *, lfs: bool) -> None:
        self.content = content
        self.lfs = lfs
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass
class Repo:
    """One model repository: every commit holds all its files."""

    name: str
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)  # users besides the owner who may read it, or have been granted it
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob], message: str = "", branch: str = "main") -> str:
        """Add a commit with these files and those of the branch before it; return its id."""
        before = self.branches.get(branch, "")
        everything = {**self.commits.get(before, {}), **files}
        text = json.dumps([before, message, len(self.commits), sorted((p, b.sha256) for p, b in everything.items())])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = everything
        self.messages[commit] = message
        self.branches[branch] = commit
        return commit

    def find(self, revision: str) -> str | None:
        """The commit of a branch, tag, commit or beginning of a commit."""
        named = self.branches.get(revision) or self.tags.get(revision)
        if named is not None:
            return named
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            return next((commit for commit in self.commits if commit.startswith(revision)), None)
        return None


@dataclass
class Request:
    """What the server was asked, and how many bytes of a body it answered."""

    place: str  # "hub" or "cdn"
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    sent: int = 0


@dataclass
class Fault:
    """A misbehaviour for the requests that it fits, `times` times (-1: for ever).

    `status` answers that instead. Else, for the content of files: `change` is applied first; the answer ignores `Range`
    (`no_range`), hides its length (`chunked`), claims `length` bytes, breaks off after `cut` bytes, or waits for
    `HubServer.release` after `hold` bytes; `pause` seconds follow each piece.
    """

    path: str = ""
    place: str = ""
    method: str = ""
    times: int = -1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    change: Callable[[bytes], bytes] | None = None
    no_range: bool = False
    chunked: bool = False
    length: int | None = None
    cut: int | None = None
    hold: int | None = None
    pause: float = 0.0

    def fits(self, request: Request) -> bool:
        return (
            self.times != 0
            and self.place in ("", request.place)
            and self.method in ("", request.method)
            and self.path in request.path
        )


def flipped(at: int) -> Callable[[bytes], bytes]:
    """Return a change that flips all bits of the byte at that offset."""
    return lambda content: content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


class Refused(Exception):
    """An error answer: status, and what the Hub puts into its headers."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


class _Server(ThreadingHTTPServer):
    """A threaded server that closes what is open when it stops, so that no thread outlives a test."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are killed or refuse a certificate are what is tested here."""

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class HubServer:
    """A Hub with its CDN, as a context manager.

    `requests` is all that was asked of both, in order; `tokens` maps tokens to user names; `moved` maps old names of
    repositories to new ones; `faults` are tried in order.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.repos: dict[str, Repo] = {}
        self.tokens: dict[str, str] = {}
        self.moved: dict[str, str] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.large: dict[str, bytes] = {}  # what the CDN holds, by SHA-256
        self.release = threading.Event()
        self.lock = threading.Lock()
        scheme = "http" if tls is None else "https"
        self._servers = [_Server(type(kind.__name__, (kind,), {"hub": self}), tls) for kind in (_Hub, _Cdn)]
        self.url, self.cdn_url = (f"{scheme}://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> HubServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        for server in self._servers:
            server.stop()

    def add(self, name: str, files: dict[str, bytes], *, branch: str = "main", **about: Any) -> str:
        """Commit files to a repository, which is made where it does not exist; return the commit."""
        repo = self.repos.setdefault(name, Repo(name))
        for key, value in about.items():
            setattr(repo, key, value)
        return repo.commit({path: self.blob(path, content) for path, content in files.items()}, "add", branch)

    def blob(self, path: str, content: bytes) -> Blob:
        blob = Blob(content, lfs=is_large(path, len(content), content[:512]))
        if blob.lfs:
            self.large[blob.sha256] = content
        return blob

    def fail(self, **fault: Any) -> Fault:
        """Add a fault."""
        self.faults.append(Fault(**fault))
        return self.faults[-1]

    def asked(self, place: str = "", method: str = "", path: str = "") -> list[Request]:
        """The requests so far that fit."""
        return [request for request in list(self.requests) if Fault(path, place, method).fits(request)]

    def fault_for(self, request: Request) -> Fault:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.fits(request):
                    fault.times -= 1 if fault.times > 0 else 0
                    return fault
        return Fault()


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub would keep a file in LFS: large, or binary."""
    return size >= LFS_FROM or path.endswith(".safetensors") or b"\0" in sample


class _Handler(BaseHTTPRequestHandler):
    """What Hub and CDN share: records, faults, bodies of both kinds, ranges."""

    protocol_version = "HTTP/1.1"
    hub: HubServer
    place = ""
    routes: tuple[tuple[str, str, str], ...] = ()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: the tests look at `HubServer.requests`."""

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.body = b"".join(self._read_body())
        self.asked = Request(self.place, self.command, self.path, headers)
        self.fault = self.hub.fault_for(self.asked)
        try:
            if self.fault.status:
                raise Refused(self.fault.status, "as the test asked for")
            self._route()
        except Refused as refusal:
            body = json.dumps({"error": str(refusal)}).encode()
            self.reply(refusal.status, body, {**refusal.headers, **self.fault.headers})
        except OSError:  # the client went away
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _route(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, parts.path)
            if self.command in method.split() and found:
                getattr(self, name)(*(unquote(group or "") for group in found.groups()))
                return
        raise Refused(404, "Sorry, we can't find the page you are looking for.")

    def _read_body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole answer; its length is told even where a HEAD leaves the body out."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.asked.sent += len(body)  # before it goes out: a test reads it as soon as the client has it
            self.wfile.write(body)

    def reply_json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def reply_file(self, content: bytes, headers: dict[str, str]) -> None:
        """Send the content of a file, or the range asked for, with what the fault does to it."""
        fault = self.fault
        if fault.change is not None:
            content = fault.change(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, total = 200, len(content)
        headers = {"Accept-Ranges": "bytes", **headers}
        if wanted and not fault.no_range:
            first, last = int(wanted[1]), min(int(wanted[2] or total - 1), total - 1)
            if first >= total:
                self.reply(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            content, status = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self.send_response(status)
        length = len(content) if fault.length is None else fault.length
        headers |= {"Transfer-Encoding": "chunked"} if fault.chunked else {"Content-Length": str(length)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(content)

    def _write(self, content: bytes) -> None:
        fault = self.fault
        stops = sorted({stop for stop in (fault.cut, fault.hold) if stop is not None and stop < len(content)})
        start = 0
        for stop in [*stops, len(content)]:
            while start < stop:
                piece = content[start : min(start + PIECE, stop)]
                start += len(piece)
                self.asked.sent += len(piece)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if fault.chunked else piece)
                time.sleep(fault.pause)
            if stop == fault.hold:
                self.hub.release.wait(60)
            if stop == fault.cut and stop < len(content):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
        if fault.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = fault.length is not None


class _Cdn(_Handler):
    """Where large files are: asked by SHA-256, knows no tokens."""

    place = "cdn"
    routes = (("GET HEAD", r"/files/([0-9a-f]{64})", "file"), ("PUT", r"/upload/([0-9a-f]{64})", "upload"))

    def file(self, sha256: str) -> None:
        if "authorization" in self.asked.headers:
            raise Refused(400, "Only one auth mechanism allowed")  # as the real one says
        if sha256 not in self.hub.large:
            raise Refused(404, "NoSuchKey")
        self.reply_file(self.hub.large[sha256], {"ETag": f'"{sha256}"'})

    def upload(self, sha256: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != sha256:
            raise Refused(400, "BadDigest")
        self.hub.large[sha256] = self.body
        self.reply(200)


class _Hub(_Handler):
    """The Hub's own addresses."""

    place = "hub"
    repo_name = r"([^/]+/[^/]+)"
    api = r"/api/models/([^/]+/[^/]+)"
    routes = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("GET", rf"{api}(?:/revision/([^/]+))?", "info"),
        ("GET", rf"{api}/tree/([^/]+)(?:/(.+))?", "tree"),
        ("POST", rf"{api}/paths-info/([^/]+)", "paths_info"),
        ("GET", rf"{api}/refs", "refs"),
        ("GET HEAD", rf"/{repo_name}/resolve/([^/]+)/(.+)", "resolve"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", rf"{api}/preupload/([^/]+)", "preupload"),
        ("POST", rf"/{repo_name}\.git/info/lfs/objects/batch", "lfs_batch"),
        ("POST", rf"/{repo_name}\.git/info/lfs/objects/verify", "lfs_verify"),
        ("POST", rf"{api}/commit/([^/]+)", "commit"),
    )

    def user(self) -> str:
        """Whose token was sent; empty without one."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if not kind:
            return ""
        if token not in self.hub.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def repo(self, name: str) -> Repo:
        """The repository, where the user may see it: without a token the Hub does not tell private from missing."""
        user = self.user()
        if name in self.hub.moved:
            raise Moved(self.path.replace(name, self.hub.moved[name], 1))
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and user not in {name.split("/")[0], *repo.readers}):
            if not user:
                raise Refused(401, "Invalid username or password.", "RepoNotFound")
            raise Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, name: str) -> Repo:
        repo = self.repo(name)
        if self.user() != name.split("/")[0]:
            raise Refused(403, "You don't have the rights to write here") if self.user() else Refused(401, "Log in")
        return repo

    def files(self, repo: Repo, revision: str) -> tuple[str, dict[str, Blob]]:
        commit = repo.find(revision)
        if commit is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, repo.commits[commit]

    def whoami(self) -> None:
        if not self.user():
            raise Refused(401, "Invalid username or password.")
        self.reply_json({"type": "user", "name": self.user(), "orgs": []})

    def info(self, name: str, revision: str) -> None:
        repo = self.repo(name)
        commit, files = self.files(repo, revision or "main")
        siblings = []
        for path, blob in sorted(files.items()):
            about: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                about |= {"size": len(blob.content), "blobId": blob.oid}
                if blob.lfs:
                    about["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": 134}
            siblings.append(about)
        gated = "auto" if repo.gated else False
        record = {"_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "private": repo.private, "gated": gated}
        self.reply_json({**record, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def tree(self, name: str, revision: str, folder: str) -> None:
        _, files = self.files(self.repo(name), revision)
        self.reply_json([_record(path, blob) for path, blob in sorted(files.items()) if path.startswith(folder)])

    def paths_info(self, name: str, revision: str) -> None:
        _, files = self.files(self.repo(name), revision)
        paths = parse_qs(self.body.decode()).get("paths", [])
        self.reply_json([_record(path, files[path]) for path in paths if path in files])

    def refs(self, name: str) -> None:
        repo = self.repo(name)
        kinds = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
        answer = {
            kind: [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": c} for n, c in names.items()]
            for kind, (folder, names) in kinds.items()
        }
        self.reply_json({**answer, "converts": []})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        if repo.gated and self.user() not in {name.split("/")[0], *repo.readers}:
            raise Refused(403 if self.user() else 401, f"Access to model {name} is restricted.", "GatedRepo")
        commit, files = self.files(repo, revision)
        if path not in files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        blob = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.etag}"'}
        if not blob.lfs:
            self.reply_file(blob.content, headers)
            return
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        headers["Location"] = f"{self.hub.cdn_url}/files/{blob.sha256}?signature=secret"
        self.reply(302, b"Found. Redirecting.", headers)

    def create(self) -> None:
        wanted = json.loads(self.body)
        user = self.user()
        if not user:
            raise Refused(401, "Invalid username or password.")
        owner = wanted.get("organization") or user
        name = f"{owner}/{wanted['name']}"
        if owner != user:
            raise Refused(403, "You don't have the rights to create a model under this namespace")
        if name in self.hub.repos:
            body = json.dumps({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            self.reply(409, body.encode())
            return
        private = wanted.get("private") is True or wanted.get("visibility") == "private"
        self.hub.repos[name] = Repo(name, private=private)
        self.hub.repos[name].commit({".gitattributes": self.hub.blob(".gitattributes", b"")}, "initial commit")
        self.reply_json({"url": f"{self.hub.url}/{name}", "name": name})

    def validate_yaml(self) -> None:
        self.reply_json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        _, present = self.files(self.writable(name), revision)
        answer = []
        for file in json.loads(self.body)["files"]:
            large = is_large(file["path"], file["size"], base64.b64decode(file["sample"]))
            about = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in present:
                about["oid"] = present[file["path"]].etag
            answer.append(about)
        self.reply_json({"files": answer})

    def lfs_batch(self, name: str) -> None:
        self.writable(name)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            about: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large:
                verify = f"{self.hub.url}/{name}.git/info/lfs/objects/verify"
                upload = f"{self.hub.cdn_url}/upload/{wanted['oid']}"
                about["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(about)
        self.reply_json({"transfer": "basic", "objects": objects})

    def lfs_verify(self, name: str) -> None:
        self.writable(name)
        wanted = json.loads(self.body)
        if len(self.hub.large.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refused(404, "Object not found")
        self.reply_json({})

    def commit(self, name: str, branch: str) -> None:
        repo = self.writable(name)
        lines = [json.loads(line) for line in self.body.splitlines()]
        message, changed = "", {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                changed[value["path"]] = self.hub.blob(value["path"], base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile" and value["oid"] in self.hub.large:
                changed[value["path"]] = Blob(self.hub.large[value["oid"]], lfs=True)
            else:
                raise Refused(400, f"cannot commit {line['key']}")
        commit = repo.commit(changed, message, branch)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self.reply_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})


class Moved(Refused):
    """The repository has another name now: a redirect on the same host."""

    def __init__(self, path: str) -> None:
        super().__init__(307, "Temporary Redirect")
        self.headers = {"Location": quote(path, safe="/?=&%")}


def _record(path: str, blob: Blob) -> dict[str, Any]:
    """A file as tree and paths-info describe it."""
    record: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
    if blob.lfs:
        record["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
    return record


class ForwardProxy:
    """A proxy as firms have it: plain requests with the whole address, and tunnels (CONNECT) for https.

    `seen` lists method and target of each request; with `refuse` it answers 407 to all.
    """

    def __init__(self, *, refuse: bool = False) -> None:
        self.seen: list[tuple[str, str]] = []
        self.refuse = refuse
        self._server = _Server(type("_Relay", (_Relay,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ForwardProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()


class _Relay(BaseHTTPRequestHandler):
    proxy: ForwardProxy

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _refuses(self) -> bool:
        self.proxy.seen.append((self.command, self.path))
        if self.proxy.refuse:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return self.proxy.refuse

    def do_GET(self) -> None:
        if self._refuses():
            return
        target = urlsplit(self.path)
        connection = HTTPConnection(target.hostname or "", target.port or 80, timeout=30)
        path = f"{target.path}?{target.query}" if target.query else target.path
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: value for name, value in self.headers.items() if "connection" not in name.lower()}
        try:
            connection.request(self.command, path, body or None, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            while piece := answer.read(PIECE):
                self.wfile.write(piece)
        finally:
            connection.close()

    do_HEAD = do_POST = do_GET

    def do_CONNECT(self) -> None:
        if self._refuses():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection))
            back.start()
            _pump(self.connection, far)
            back.join()


@contextmanager
def clean_client(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Let no setting of the developer's shell reach huggingface_hub, and no file of it leave `folder`.

    Its session lives as long as this: proxies and certificates of one test are not those of the next.
    """
    from huggingface_hub import close_session, constants

    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "HUGGING", "IMPUTER_")) or name in CERTIFICATES:
            patch.delenv(name)
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")  # for processes that a test starts
    patch.setenv("HF_HOME", str(folder))
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    close_session()
    try:
        yield
    finally:
        close_session()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side ends, then end the other."""
    with suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
