"""What is published names no place: a path of this machine or an address of its network says who made it and where."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bertkit.errors import redacted

# What a path may stand between in a list; blanks are in many a path, so they come last.
_BETWEEN: Final = re.compile(r"""([=,;()\[\]{}"']+)""")
_BLANKS: Final = re.compile(r"(\s+)")
# NAME=VALUE, -oVALUE and @VALUE.
_ASSIGNED: Final = re.compile(r"(-{0,2}\w[\w.-]*=|-\w|@)(.+)", re.DOTALL)
_URL: Final = re.compile(r"^(?!hf://)[A-Za-z][\w+.-]*://")
# /x, //x, C:\x, \\x, ~/x, ~ann/x, and behind a colon: file:/x, host:/x.
_ABSOLUTE: Final = re.compile(r"^(?:(?!hf://)[\w.@+-]{2,}:/+|[A-Za-z]:[\\/]+|\\\\|/+|~[\w.-]*[\\/])[^\s\\/]")
_UPWARDS: Final = re.compile(r"(?:^|[\\/])\.\.[\\/]")


def base_name(location: str) -> str:
    """The last part of a path or a URL, without what gives access to it; a Hub id stays as it is."""
    if not is_place(location):
        return redacted(location)
    path = location.partition("?")[0] if _URL.match(location) else location
    return re.split(r"[\\/]+", path.rstrip("\\/"))[-1]


def is_place(text: str) -> bool:
    """Whether this is an absolute path, of Windows too, one through `..`, or a URL of anything but the Hub."""
    return bool(_URL.match(text) or _ABSOLUTE.match(text) or _UPWARDS.search(text))


def shown_command(command: Sequence[str]) -> str:
    """A command as one line for a shell, quoted, its places cut to their last part and its secrets hidden."""
    return redacted(shlex.join(_shortened(str(argument)) for argument in command))


def without_places(value: Any) -> Any:
    """Text, or lists and mappings with text in them, with every absolute path and URL cut to its last part."""
    if isinstance(value, Mapping):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return _shortened(value) if isinstance(value, str) else value


def _shortened(text: str) -> str:
    if assigned := _ASSIGNED.fullmatch(text):
        return redacted(assigned[1] + _shortened(assigned[2]))
    return redacted(_cut(text) if is_place(text) else "".join(_cut(part) for part in _BETWEEN.split(text)))


def _cut(text: str) -> str:
    """Text whose places stand alone or between blanks, with them cut."""
    inner = text.strip()
    if is_place(inner):
        return text.replace(inner, base_name(inner), 1)
    return "".join(base_name(part) for part in _BLANKS.split(text))
