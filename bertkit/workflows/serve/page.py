"""The page as one document that loads nothing else, and the policy under which its own style and script alone work."""

import base64
import hashlib
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("bertkit.workflows.serve") / "page"


def read_page() -> tuple[str, str]:
    """The page with its style and script inside, and its Content-Security-Policy."""
    style, script = _read("page.css"), _read("page.js")
    page = _read("page.html").replace("/* page.css */", style).replace("/* page.js */", script)
    rules = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{name} {value}" for name, value in rules.items())


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
