"""What is published names no place: a path of this machine or an address of its network says who made it and where."""

import re
from collections.abc import Mapping
from typing import Any, Final

from bertkit.errors import redacted

# What a path may stand between in a command, or in a list within one.
_BETWEEN: Final = re.compile(r"""([\s=,;()\[\]{}"']+)""")
_URL: Final = re.compile(r"^(?!hf://)[A-Za-z][\w+.-]*://")
_ABSOLUTE: Final = re.compile(r"^(?:[A-Za-z]:[\\/]|\\\\|/|~[\\/])[^\s\\/]")


def base_name(location: str) -> str:
    """The last part of a path or a URL, without what gives access to it; a Hub id stays as it is."""
    if not is_place(location):
        return redacted(location)
    path = location.partition("?")[0] if _URL.match(location) else location
    return re.split(r"[\\/]+", path.rstrip("\\/"))[-1]


def is_place(text: str) -> bool:
    """Whether this is an absolute path, of Windows too, or a URL of anything but the Hub."""
    return bool(_URL.match(text) or _ABSOLUTE.match(text))


def without_places(value: Any) -> Any:
    """Text, or lists and mappings with text in them, with every absolute path and URL cut to its last part."""
    if isinstance(value, Mapping):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return _shortened(value) if isinstance(value, str) else value


def _shortened(text: str) -> str:
    # A path may have blanks in its name.
    if is_place(text):
        return redacted(base_name(text))
    return redacted("".join(base_name(part) for part in _BETWEEN.split(text)))
