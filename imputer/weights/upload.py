"""Files to the Hugging Face Hub, as one commit, through huggingface_hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imputer.errors import ModelError
from imputer.weights import transfer
from imputer.weights.hub_errors import Trouble, Wanted, http_errors, refusal, trouble_of


def upload(
    repo: str, files: Mapping[str, Path | bytes], *, private: bool, message: str, token: str | None = None
) -> str:
    """Commit files to a repository ("owner/name"), which is made where there is none; return the commit.

    `files` maps paths in the repository to files here or to contents. Raises ModelError by cause, as
    `transfer.download`; where there is no token, before anything is sent.
    """
    token = token or transfer.hub_token()
    if not token:
        raise ModelError(
            "To upload, a token for the Hub is needed.",
            remedy="Set HF_TOKEN to one that may write (huggingface.co/settings/tokens).",
        )
    endpoint = transfer.endpoint()
    transfer.session()  # complains about settings of the network
    with _plain_client(), _plain_errors(endpoint, Wanted(repo)):
        from huggingface_hub import CommitOperationAdd, HfApi

        client = HfApi(endpoint=endpoint, token=token)
        if not client.repo_exists(repo):  # a token may be allowed to write there, and not to make new ones
            client.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return str(client.create_commit(repo, operations, commit_message=message).oid)


@contextmanager
def _plain_client() -> Iterator[None]:
    """Let huggingface_hub work by HTTP alone, without telemetry and without bars of its own, then as before.

    Its other way to upload, Xet, has an HTTP client that knows nothing of `REQUESTS_CA_BUNDLE` or of mirrors; its
    telemetry would ask the Hub which program this runs in.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    names = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
    before = {name: getattr(constants, name) for name in names}
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        for name in names:
            setattr(constants, name, True)
        with transfer.trusted_certificates(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)  # huggingface_hub's own use of httpx
            yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
        if had_bars:
            enable_progress_bars()


@contextmanager
def _plain_errors(endpoint: str, wanted: Wanted) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    try:
        yield
    except http_errors() as error:
        raise _plain(error, endpoint, wanted) from error
    except (ValueError, RuntimeError) as error:  # what it refuses to send; an upload in a thread that failed
        if isinstance(error.__cause__, http_errors()):
            raise _plain(error.__cause__, endpoint, wanted) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"The Hub cannot take the files: {reason[0]}") from error


def _plain(error: Exception, endpoint: str, wanted: Wanted) -> ModelError:
    response: Any = getattr(error, "response", None)
    if response is None:
        found = trouble_of(error, endpoint, wanted)
    else:
        url, hub = urlsplit(str(response.url)), urlsplit(endpoint)
        elsewhere = url.netloc != hub.netloc
        found = refusal(
            response.status_code, response.headers, wanted, url.hostname or "", elsewhere=elsewhere, with_token=True
        )
    return found.error if isinstance(found, Trouble) else found
