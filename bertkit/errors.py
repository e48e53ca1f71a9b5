"""The errors a user can mend: one sentence that says what is wrong and what to do."""

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

# What the system says when there is no room left: on the disk, in the quota, in the file.
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What stands for a secret in what is written down or said.
HIDDEN: Final = "***"
# user:password@, or a token@ alone; the container@account of Azure is no secret.
_PASSWORD: Final = re.compile(r"(?<=://)(?:[^/\s'\"@:]*:[^/\s'\"]+|[^/\s'\"@:]{32,})(?=@)")
_QUERY: Final = re.compile(r"(?<=://)([^\s?'\"]*\?)[^\s'\"]+?(?=[:;,.)]*(?:[\s'\"]|$))")
_HUB_TOKEN: Final = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
# What is shorter is no token, and may be part of any word.
_LEAST_TOKEN_CHARS: Final = 16
_TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# A terminal takes these for commands; a tab or a new line is none.
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


class BertkitError(Exception):
    """A mistake in what bertkit was given, never in bertkit: the message names the fix, and no secret."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ConfigError(BertkitError):
    """A recipe, an option, or two settings that do not fit together."""


class CorpusError(BertkitError):
    """Text, a tokenizer or a token store that cannot be used as it is."""


class TaskError(BertkitError):
    """A labelled file or a task that cannot be used as it is."""


class CheckpointError(BertkitError):
    """A run folder, a checkpoint or an export that cannot be trusted or written."""


class HubError(BertkitError):
    """A Hugging Face Hub repository that cannot be read or written."""


class SaidElsewhereError(BertkitError):
    """Another process of the same launch failed and says why."""


@contextmanager
def refused_as(kind: type[BertkitError], sentence: str) -> Iterator[None]:
    """Turn whatever goes wrong in opening what another program wrote into one sentence, its reason in brackets.

    Only around the opening itself: damage makes libraries raise errors of every class, and so do bugs of ours.
    """
    try:
        yield
    except BertkitError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise kind(f"{sentence} ({reason[:200]})") from error


def redacted(text: str) -> str:
    """The text without passwords and queries of URLs, whose signatures give access, and without Hub tokens."""
    for token in (os.environ.get(name, "") for name in _TOKEN_VARIABLES):
        if len(token) >= _LEAST_TOKEN_CHARS:
            text = text.replace(token, HIDDEN)
    if "://" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(HIDDEN, text))
    return _HUB_TOKEN.sub(f"hf_{HIDDEN}", text)


def printable(text: str) -> str:
    """The text as a terminal may show it: control characters and halves of characters as escapes."""
    return text.translate(_CONTROL).encode("utf-8", "backslashreplace").decode()


def nearest(name: str, known: Iterable[str]) -> str:
    """`: did you mean '...'?` for the known name most like this one, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean '{matches[0]}'?" if matches else ""
