"""Text files of labelled data, with errors that name the file and the line."""

from pathlib import Path
from typing import Final

from bertkit.errors import TaskError

UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """The whole file, without its byte-order mark; raises TaskError where it is not readable, not UTF-8 or empty."""
    try:
        binary = path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror or error}; check the path and its permissions") from error
    if binary.startswith(UTF16_MARKS):
        raise TaskError(f"{path} is UTF-16: save it as UTF-8 (iconv -f utf-16 -t utf-8)")
    try:
        text = binary.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = binary.count(b"\n", 0, error.start) + 1
        raise TaskError(
            f"{path}:{line} is not UTF-8 (byte 0x{binary[error.start]:02X}): unpack the file if it is compressed, "
            "or save it as UTF-8 (iconv -f latin1 -t utf-8)"
        ) from error
    if not text.strip():
        raise TaskError(f"{path} is empty: download or write it again")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a file, ended by line feeds alone: sentences may hold other characters that Python takes for ends.

    Raises TaskError as `read_text` does.
    """
    return [line.removesuffix("\r") for line in read_text(path).split("\n")]


def require_encodable(text: str, *, place: str) -> None:
    r"""Raise TaskError where JSON's escapes left half a character (\ud83d alone), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise TaskError(f"{place} has half a character ({half}): write both halves, or take it out") from error


def name_some(lines: list[int], *, at_most: int = 5) -> str:
    """Line numbers for a sentence: `3, 17, 21`, and an ellipsis where there are more."""
    return ", ".join(map(str, lines[:at_most])) + (", ..." if len(lines) > at_most else "")
