"""From chapters to one HTML file that asks no network for anything, and whose policy forbids it to."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from markupsafe import Markup, escape

import bertkit
from bertkit.errors import printable
from bertkit.workflows.report.blocks import Chapter

_TEMPLATES: Final = files("bertkit.workflows.report") / "templates"


@dataclass
class _Ids:
    """Names for elements of the page, none given twice."""

    last: int = 0

    def __call__(self, stem: str = "n") -> str:
        self.last += 1
        return f"{stem}{self.last}"


def render(title: str, chapters: Sequence[Chapter]) -> Iterator[str]:
    """The page, piece by piece."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_clean,
    )
    environment.filters |= {"kind": lambda value: type(value).__name__, "breakable": _breakable}
    script = _read("script.js")
    template = environment.get_template("page.html.jinja")
    pieces = template.stream(
        title=title,
        chapters=chapters,
        style=_read("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        new_id=_Ids(),
        version=bertkit.__version__,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    pieces.enable_buffering(64)
    return iter(pieces)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line behind its dots and underscores; text with blanks as it is."""
    if any(map(str.isspace, text)):
        return escape(printable(text))
    return Markup(re.sub(r"([._/])(?=\w)", r"\1<wbr>", str(escape(printable(text)))))


def _clean(value: Any) -> Any:
    """Halves of characters and control characters of data as escapes: a page cannot hold them."""
    return printable(value) if type(value) is str else value
