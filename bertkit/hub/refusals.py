"""What goes wrong with the Hub, in one sentence with the fix; the token is in none of them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from bertkit.errors import HIDDEN, HubError

# HfHubHTTPError is one, and so is whatever the HTTP library, which changes its name, raises where no answer comes.
HTTP_ERRORS: Final = tuple(
    base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError" and issubclass(base, Exception)
)
_NO_CONNECTION: Final = ("ConnectError", "ConnectTimeout")
_NO_BLANK: Final = re.compile(r"\S+")
_REFUSALS: Final[tuple[type[Exception], ...]] = (OSError, ValueError, RuntimeError, *HTTP_ERRORS)
_TOKENS: Final = "https://huggingface.co/settings/tokens"
_AGAIN: Final = "run the same command again: what is already there is not sent twice"
_REASON_CHARS: Final = 300


@contextmanager
def told(repo_id: str) -> Iterator[None]:
    """Turns whatever the Hub, the network or the upload refuses into a HubError."""
    try:
        yield
    except HubError:
        raise
    except _REFUSALS as error:
        raise HubError(_without_token(sentence(error, repo_id))) from None


def sentence(error: BaseException, repo_id: str) -> str:
    """What went wrong, and what to do."""
    found = _innermost(error)
    if isinstance(found, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or look with --dry-run"
    if isinstance(found, HFValidationError):
        return f"{repo_id!r} is no repository: give NAME or OWNER/NAME of letters, digits, '-', '_' and '.'"
    if isinstance(found, HfHubHTTPError):
        return _answered(found, repo_id)
    if isinstance(found, HTTP_ERRORS):
        return f"the Hub at {constants.ENDPOINT} cannot be reached ({_reason(found)}): check the network, then {_AGAIN}"
    if isinstance(found, PermissionError) and found.filename is None:
        return f"the Hub's storage refuses the token for {repo_id} ({_reason(found)}): {_AGAIN}, or log in anew"
    if isinstance(found, OSError) and found.filename is not None:
        return f"{found.filename} cannot be read or written ({found.strerror}): mend that, then {_AGAIN}"
    # A mirror may lack the Hub's newer storage; hf_xet tells of it in words only.
    without_xet = ", or with HF_HUB_DISABLE_XET=1 where this Hub has no xet storage" if "xet" in str(found) else ""
    return f"{repo_id} could not be pushed ({_reason(found)}): {_AGAIN}{without_xet}"


def require_endpoint() -> None:
    """Raise HubError where HF_ENDPOINT is no address at all."""
    try:
        parts = urlsplit(constants.ENDPOINT)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url or not _NO_BLANK.fullmatch(constants.ENDPOINT):
        raise HubError(
            f"HF_ENDPOINT {constants.ENDPOINT!r} is no URL: give http(s)://..., such as https://huggingface.co, or "
            "unset it"
        )


def why_not_found(error: BaseException) -> str | None:
    """Why the Hub gave no model of a name, as a clause; None where it has the model, or the error is not of the Hub."""
    found = _innermost(error)
    if isinstance(found, HFValidationError):
        return "no model on the Hub can be called so"
    if isinstance(found, RepositoryNotFoundError) and not isinstance(found, GatedRepoError):
        return f"the Hub at {constants.ENDPOINT} shows none of that name"
    if constants.HF_HUB_OFFLINE and isinstance(found, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked"
    if isinstance(found, LocalEntryNotFoundError) or is_out_of_reach(found):
        return f"the Hub at {constants.ENDPOINT} cannot be reached"
    return None


def is_out_of_reach(error: BaseException) -> bool:
    """Whether there was not even a connection."""
    return isinstance(error, HTTP_ERRORS) and any(kind.__name__ in _NO_CONNECTION for kind in type(error).__mro__)


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: no answer, too many requests, or a failure of the server."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, HTTP_ERRORS)


def _answered(error: HfHubHTTPError, repo_id: str) -> str:
    status, said = error.response.status_code, _said(error)
    owner = repo_id.partition("/")[0] if "/" in repo_id else "your account"
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"the Hub refuses the token ({said}): log in with hf auth login, or set HF_TOKEN to one from {_TOKENS}"
    if status in (401, 404):
        return f"there is no {repo_id} that this token may see ({said}): check the name, the --revision and the token"
    if status == 403:
        return f"the token may not write to {repo_id} ({said}): give it write access to {owner} at {_TOKENS}"
    if status == 429:
        return f"the Hub asks for fewer requests ({said}): wait a few minutes, then {_AGAIN}"
    if status == 409:
        return f"{repo_id} was changed by somebody else meanwhile ({said}): {_AGAIN}"
    if status >= 500:
        return f"the Hub fails ({status}: {said}), after several tries: {_AGAIN}"
    return f"the Hub refuses {repo_id} ({status}: {said}): mend that, then {_AGAIN}"


def _innermost(error: BaseException) -> BaseException:
    """The error that an upload's own was raised from."""
    while error.__cause__ is not None and not isinstance(error, HTTP_ERRORS):
        error = error.__cause__
    return error


def _said(error: HfHubHTTPError) -> str:
    return _shortened(error.server_message or error.response.reason_phrase or "no reason given")


def _reason(error: BaseException) -> str:
    return _shortened(str(error)) or type(error).__name__


def _shortened(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARS]


def _without_token(text: str) -> str:
    """`text` with the token hidden, whatever it looks like, should the server have repeated it."""
    token: Any = get_token()
    return re.sub(re.escape(token), HIDDEN, text) if token else text
