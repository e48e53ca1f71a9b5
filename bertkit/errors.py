"""The errors a user can mend: one sentence that says what is wrong and what to do."""

import difflib
import errno
from collections.abc import Iterable
from typing import Final

# What the system says when there is no room left: on the disk, in the quota, in the file.
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BertkitError(Exception):
    """A mistake in what bertkit was given, never in bertkit: the message names the fix."""


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


def nearest(name: str, known: Iterable[str]) -> str:
    """`: did you mean '...'?` for the known name most like this one, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean '{matches[0]}'?" if matches else ""
