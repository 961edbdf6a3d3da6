"""Bytes from the Hugging Face Hub: one GET with redirects, and around it patience, resuming and checks of size.

huggingface_hub gives the session (proxies, certificates) and the token; the bytes are fetched here, as its own
downloads cannot be resumed by another process. The token is sent to the Hub alone, never to a host that the Hub
redirects to.
The environment (`HF_ENDPOINT`, `HF_TOKEN`, ...) is read at each call.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from imputer import __version__
from imputer.errors import ModelError
from imputer.weights.hub_errors import Trouble, Wanted, http_errors, refusal, trouble_of
from imputer.weights.store import unwritable

ENDPOINT = "https://huggingface.co"
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a byte
FIRST_WAIT_SECONDS = 1.0  # before the second attempt; doubles with each that brings nothing
LONGEST_WAIT_SECONDS = 60.0  # a server that asks for more is not waited for
_REDIRECTS = 8
_PORTS = {"http": 80, "https": 443}


def endpoint() -> str:
    """Where the Hub is: `HF_ENDPOINT` for a mirror; no slash at the end. ModelError where it is no address."""
    address = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not re.fullmatch(r"https?://[^/\s:]+(:[0-9]{1,5})?(/\S*)?", address):
        raise ModelError("HF_ENDPOINT is not a web address.", remedy="Give it as https://host, or unset it.")
    return address


def file_url(wanted: Wanted) -> str:
    """Where the Hub gives a file at a commit."""
    return f"{endpoint()}/{wanted.repo}/resolve/{quote(wanted.revision, safe='')}/{quote(wanted.file)}"


def read(url: str, wanted: Wanted, *, largest: int) -> bytes:
    """Return what lies at an address of the Hub, at most `largest` bytes.

    Raises ModelError by cause: no network, no access, nothing there, too many requests, a server that fails, too large.
    """
    patience = _Patience()
    while True:
        try:
            with _answered(url, wanted, {}) as response:
                content = bytearray()
                for piece in _pieces(response.iter_bytes(), url, wanted):
                    content += piece
                    if len(content) > largest:
                        raise ModelError(
                            f"{wanted} has more than {largest / 1e6:g} MB, which cannot be right.",
                            remedy="Tell who keeps the repository.",
                        )
                return bytes(content)
        except Trouble as trouble:
            patience.bear(trouble)


def download(url: str, part: Path, size: int, wanted: Wanted, on_bytes: Callable[[int], None] | None = None) -> None:
    """Fetch a file of `size` bytes into `part`, beginning behind what is there already.

    Where the line fails, `part` stays for the next time; where it can never become the file (the Hub's has another
    size, the disk is full), it is removed. The content is not checked. `on_bytes` is told how many bytes are there.
    Raises ModelError as `read`, and where the disk refuses.
    """
    patience = _Patience()
    while (done := _size(part)) < size:
        try:
            # With compression the ranges would count other bytes than the file's.
            ask = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
            with _answered(url, wanted, ask) as response:
                _append(response, part, done, size, wanted, on_bytes)
            if _size(part) < size:
                raise Trouble(ModelError(f"The download of {wanted} ended too early.", remedy="Try again."))
        except Trouble as trouble:
            patience.bear(trouble, progress=_size(part) > done)
        except _WrongSizeError as error:
            part.unlink(missing_ok=True)
            raise ModelError(
                f"{wanted} has {error.args[0]} bytes on the Hub, and {size} were expected.",
                remedy="It is not used; tell who keeps the repository.",
            ) from error


def _append(
    response: Any, part: Path, done: int, size: int, wanted: Wanted, on_bytes: Callable[[int], None] | None
) -> None:
    if response.status_code == 206:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != done:
            raise Trouble(ModelError(f"The server sends the wrong piece of {wanted}.", remedy="Try again."))
        total = told[2]
    else:
        done = 0  # the server gives the whole file, not a piece of it
        total = response.headers.get("Content-Length", str(size))
    if total != str(size):
        raise _WrongSizeError(total)
    try:
        out = part.open("ab" if done else "wb", buffering=0)  # what is written survives a killed process
    except OSError as error:
        raise unwritable(error) from error
    with out:
        for piece in _pieces(response.iter_raw(), str(response.url), wanted):
            done += len(piece)
            if done > size:
                raise _WrongSizeError(f"more than {size}")
            try:
                rest = memoryview(piece)
                while rest:
                    rest = rest[out.write(rest) :]
            except OSError as error:
                part.unlink(missing_ok=True)  # a full disk is not left full
                raise unwritable(error) from error
            if on_bytes is not None:
                on_bytes(done)


class _WrongSizeError(Exception):
    """The file on the Hub has another size than expected; carries what the Hub says."""


class _Patience:
    """Counts attempts in a row that brought nothing, and waits longer after each."""

    def __init__(self) -> None:
        self._failed = 0

    def bear(self, trouble: Trouble, *, progress: bool = False) -> None:
        """Wait before the next attempt; raises the trouble's error where there shall be none."""
        self._failed = 1 if progress else self._failed + 1
        wait = trouble.wait
        if wait is None:
            wait = min(FIRST_WAIT_SECONDS * 2 ** (self._failed - 1), LONGEST_WAIT_SECONDS)
        if self._failed >= trouble.attempts or wait > LONGEST_WAIT_SECONDS:
            raise trouble.error
        time.sleep(wait)


@contextmanager
def _answered(url: str, wanted: Wanted, headers: dict[str, str]) -> Iterator[Any]:
    """GET an address, over redirects, and give the answer before its body is read.

    Raises ModelError where the answer is a refusal that will not pass, Trouble where it may.
    """
    client = session()
    token = hub_token()
    hub = _origin(url)
    headers = {"User-Agent": f"imputer/{__version__}", **headers}
    signed = {**headers, "Authorization": f"Bearer {token}"} if token else headers
    with ExitStack() as stack:
        for _ in range(_REDIRECTS):
            sent = signed if _origin(url) == hub else headers
            response = stack.enter_context(_stream(client, url, sent, wanted))
            if not response.has_redirect_location:
                break
            url = _redirected(url, response.headers["Location"], wanted)
        else:
            raise ModelError(f"The server sends the request for {wanted} in a circle.", remedy="Check HF_ENDPOINT.")
        if response.status_code == 416 and "Range" in headers:  # asked for what is behind the end
            raise _WrongSizeError(response.headers.get("Content-Range", "fewer").rpartition("/")[2])
        if response.status_code not in (200, 206):
            host, elsewhere = urlsplit(url).hostname or "", _origin(url) != hub
            status, told = response.status_code, response.headers
            raise refusal(status, told, wanted, host, elsewhere=elsewhere, with_token=bool(token))
        yield response


@contextmanager
def _stream(client: Any, url: str, headers: dict[str, str], wanted: Wanted) -> Iterator[Any]:
    times = (CONNECT_SECONDS, READ_SECONDS, READ_SECONDS, CONNECT_SECONDS)  # connect, read, write, pool
    with ExitStack() as stack:
        try:
            response = stack.enter_context(
                client.stream("GET", url, headers=headers, follow_redirects=False, timeout=times)
            )
        except http_errors() as error:
            raise trouble_of(error, url, wanted) from error
        yield response


def _pieces(body: Iterator[bytes], url: str, wanted: Wanted) -> Iterator[bytes]:
    try:
        yield from body
    except http_errors() as error:
        raise trouble_of(error, url, wanted) from error


def _redirected(url: str, location: str, wanted: Wanted) -> str:
    target = urljoin(url, location)
    if urlsplit(target).scheme not in _PORTS or (url.startswith("https:") and not target.startswith("https:")):
        raise ModelError(
            f"The server sends the request for {wanted} to an address that is not protected by https.",
            remedy="Nothing was fetched; check HF_ENDPOINT.",
        )
    return target


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unwritable(error) from error


def hub_token() -> str | None:
    """The user's token for the Hub: `HF_TOKEN`, or the one that was stored by a login; None without any."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    try:
        token = get_token()
    except Exception as error:  # it may lie in a file, in a vault or with an identity provider
        raise ModelError("The token for the Hub cannot be read.", remedy="Set HF_TOKEN, or log in again.") from error
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise ModelError("The token for the Hub has characters that no token has.", remedy="Set HF_TOKEN again.")
    return token


def session() -> Any:
    """The HTTP session of huggingface_hub, which knows proxies; it also trusts `REQUESTS_CA_BUNDLE`."""
    from huggingface_hub import get_session

    with trusted_certificates():
        try:
            return get_session()
        except Exception as error:  # a file of certificates that is none, a proxy that is no address: of many types
            raise ModelError(
                "The settings of the network cannot be used.",
                remedy="Check HTTPS_PROXY, SSL_CERT_FILE and REQUESTS_CA_BUNDLE.",
            ) from error


@contextmanager
def trusted_certificates() -> Iterator[None]:
    """Let sessions that are made meanwhile trust `REQUESTS_CA_BUNDLE`, of which httpx knows nothing.

    `SSL_CERT_FILE` and `SSL_CERT_DIR`, which it does know, go first.
    """
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if not bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        yield
        return
    name = "SSL_CERT_DIR" if os.path.isdir(bundle) else "SSL_CERT_FILE"
    os.environ[name] = bundle
    try:
        yield
    finally:
        os.environ.pop(name, None)
