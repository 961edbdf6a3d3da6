"""What the Hub, the network and what stands between them can answer, as one sentence each with what to do about it."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from imputer.errors import ModelError

ATTEMPTS = 6  # in a row that bring nothing
FEW_ATTEMPTS = 3  # where another one will hardly help: a host that is not reached, a refusal by a storage host
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_TOKENS = "huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Wanted:
    """What is asked of the Hub: a file of a repository ("owner/name") at a revision, or less."""

    repo: str
    revision: str = ""
    file: str = ""

    def __str__(self) -> str:
        at = f"@{self.revision[:12]}" if self.revision else ""
        return f"{self.file} of {self.repo}{at}" if self.file else f"{self.repo}{at}"


class Trouble(Exception):
    """A failure that may pass.

    Parameters
    ----------
    error : what to raise where it does not pass.
    attempts : how many in a row are worth making.
    wait : seconds that the server asked for; None: the usual ones.
    """

    def __init__(self, error: ModelError, *, attempts: int = ATTEMPTS, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts
        self.wait = wait


def refusal(
    status: int, headers: Mapping[str, str], wanted: Wanted, host: str, *, elsewhere: bool, with_token: bool
) -> ModelError | Trouble:
    """Return what an answer other than success means.

    Parameters
    ----------
    status, headers : of the answer.
    wanted : what was asked for.
    host : who answered; `elsewhere`: it is not the Hub but a host that it redirects to.
    with_token : whether a token was sent to the Hub.
    """
    if status == 407:
        return _proxy_refuses()
    if status == 429:
        wait = _asked_wait(headers)
        when = "later" if wait is None else f"in {wait:.0f} s"
        remedy = f"Try again {when}" + ("." if with_token else "; with a token (HF_TOKEN) more are allowed.")
        return Trouble(
            ModelError(f"{host} has had too many requests from here (status 429).", remedy=remedy), wait=wait
        )
    if status in _PASSING:
        error = ModelError(f"{host} fails at the moment (status {status}).", remedy="Try again later.")
        return Trouble(error, wait=_asked_wait(headers))
    if elsewhere:  # an address that the Hub signed a moment ago: it may have run out, or a firewall refuses that host
        remedy = f"Try again; a firewall must let {host} through too."
        message = f"{host}, where the Hub keeps its files, refuses {wanted} (status {status})."
        return Trouble(ModelError(message, remedy=remedy), attempts=FEW_ATTEMPTS)
    if status in (401, 403, 404):
        return _no_access(status, headers.get("X-Error-Code", ""), wanted, host, with_token)
    return ModelError(
        f"{host} answers the request for {wanted} with status {status}.",
        remedy="Check HF_ENDPOINT, and whether a firewall or proxy stands between.",
    )


def _no_access(status: int, code: str, wanted: Wanted, host: str, with_token: bool) -> ModelError:
    repo = wanted.repo
    if code == "GatedRepo":
        remedy = f"Accept its terms on {host}/{repo}" + ("." if with_token else f", then set HF_TOKEN ({_TOKENS}).")
        return ModelError(f"The repository {repo} is gated, and access has not been granted.", remedy=remedy)
    if code == "RevisionNotFound":
        return ModelError(f"The repository {repo} has no revision {wanted.revision}.", remedy=f"See {host}/{repo}.")
    if code == "EntryNotFound":
        return ModelError(f"There is no {wanted} on the Hub.", remedy=f"See {host}/{repo}.")
    if not with_token:
        return ModelError(
            f"There is no public repository {repo} on {host}.",
            remedy=f"Check the name; for a private or gated one set HF_TOKEN ({_TOKENS}).",
        )
    if status == 401:
        return ModelError(f"{host} does not accept the token.", remedy=f"Set HF_TOKEN to a valid one ({_TOKENS}).")
    if status == 403:
        return ModelError(
            f"The token does not allow this with the repository {repo}.",
            remedy=f"Set HF_TOKEN to one of its owner with the right to do so ({_TOKENS}).",
        )
    return ModelError(
        f"There is no repository {repo} on {host}, or the token may not see it.",
        remedy="Check the name, and HF_TOKEN.",
    )


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that a server asks for: by Retry-After, as a number or a date, or by the Hub's RateLimit."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    if value:
        try:
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):  # not a date, or one without a zone
            return None
    spent = re.search(r";\s*r=0\s*;\s*t=(\d+)", headers.get("RateLimit", ""))
    return float(spent[1]) if spent else None


def http_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library of huggingface_hub raises: httpx, or httpx2 in later versions."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    library: Any = import_module(base.__module__)
    return base, library.InvalidURL, OfflineModeIsEnabled


def trouble_of(error: Exception, url: str, wanted: Wanted) -> ModelError | Trouble:
    """Return what a failure of the connection to an address means."""
    host = urlsplit(url).hostname or "the Hub"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    causes = list(_causes(error))
    if "OfflineModeIsEnabled" in kinds:
        return ModelError(
            "huggingface_hub is set to work offline.", remedy="Unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE."
        )
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return ModelError(
            f"The certificate of {host} is not trusted here.",
            remedy="Name the file with your network's certificate authority in SSL_CERT_FILE or REQUESTS_CA_BUNDLE.",
        )
    if "ProxyError" in kinds:
        return _proxy_refuses() if "407" in str(error) else Trouble(_proxy_fails(), attempts=FEW_ATTEMPTS)
    if kinds & {"InvalidURL", "UnsupportedProtocol", "LocalProtocolError"}:
        return ModelError(f"The request for {wanted} cannot be sent.", remedy="Check HF_ENDPOINT and HF_TOKEN.")
    if kinds & {"ConnectError", "ConnectTimeout"}:
        reason = (
            "its name is not known here" if any(isinstance(c, socket.gaierror) for c in causes) else "no connection"
        )
        return Trouble(
            ModelError(f"{host} cannot be reached ({reason}).", remedy=_unreachable()), attempts=FEW_ATTEMPTS
        )
    if "TimeoutException" in kinds:
        return Trouble(ModelError(f"{host} has fallen silent.", remedy="Try again; what is there already is kept."))
    return Trouble(
        ModelError(f"The connection to {host} breaks off.", remedy="Try again; what is there already is kept.")
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _proxy_refuses() -> ModelError:
    return ModelError(
        "The proxy wants a name and a password (status 407).",
        remedy="Give them as HTTPS_PROXY=http://name:password@host:port.",
    )


def _proxy_fails() -> ModelError:
    return ModelError("The proxy does not let the request through.", remedy="Check HTTPS_PROXY and NO_PROXY.")


def _unreachable() -> str:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY")):
        return "Check the network and HTTPS_PROXY; --offline uses what is on this machine."
    return (
        "Check the network; behind a firewall set HTTPS_PROXY or HF_ENDPOINT; --offline uses what is on this machine."
    )
