"""English sentences out of Python docstrings: code, tables, headings and reST marks are left out."""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bertkit.data.sentences import split_sentences

MARKUP: Final = (
    (re.compile(r"`([^`<>]+?)\s*<[^`>]*>`_*"), r"\1"),  # `text <link>`_
    (re.compile(r":(?:[\w+.-]+:)?[\w+-]+:`~?!?(?:[\w.]*\.)?([^`]+)`"), r"\1"),  # :class:`~package.Name`
    (re.compile(r"\s*\[[\w#*]+\]_"), ""),  # [1]_
    (re.compile(r"\[([^\]]+)\]\([^)]+\)"), r"\1"),  # [text](link)
    (re.compile(r"\[`([^`\]]+)`\]"), r"\1"),  # [`Name`]
    (re.compile(r"`+([^`]+)`+_*"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*|(?<!\w)\*([^*\s][^*]*)\*(?!\w)"), r"\1\2"),
    (re.compile(r"\|([^|\s]+)\|"), r"\1"),
)
CODE_START: Final = re.compile(r"\s*(>>>|\.\.\. |In \[\d+\]|\$ )")
FENCE: Final = re.compile(r"\s*(```|~~~)")
UNDERLINE: Final = re.compile(r"\s*([=\-~^\"'#*+`:.])\1{2,}\s*")
TABLE: Final = re.compile(r"\s*(\|.*\||\+[-=+]+\+|[=-]{2,}(\s+[=-]{2,})+)\s*")
DIRECTIVE: Final = re.compile(r"\s*\.\. .*")
# "x : int, optional" of numpy, "x (int):" of Google, ":param x:" of Sphinx, "- " and "1. " of lists
PARAMETER: Final = re.compile(r"\s*\*{0,2}`{0,2}[\w.*{}\[\]', \"`\\]+?\s+:(\s.*)?")
LEAD: Final = re.compile(
    r"\s*(\*{0,2}`{0,2}[\w.*]+`{0,2}\s*(\([^()]*(\([^()]*\)[^()]*)*\))?:(\s+|$)|:\w+[^:]*:\s*|[-*+•]\s+|\(?\d{1,2}[.)]\s+)"
)
SENTENCE: Final = re.compile(r"[\"'(]?[A-Z].*[.!?:][\"')]?")
CODE_MARKS: Final = re.compile(r"[{}<>=|\\_@#$%^~\[\]]|\w\.\w|\(\)")
NEITHER_LETTER_NOR_SPACE: Final = re.compile(r"[^A-Za-z ]")
LEAST_WORDS: Final = 4
MOST_CODE_MARKS_A_WORD: Final = 0.2


def read_docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a module, its classes and functions; the file is parsed, never run, and a broken one has none."""
    try:
        with warnings.catch_warnings():
            # Invalid escapes in the docstrings of others are no concern of ours.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if docstring := ast.get_docstring(node, clean=False):
            yield docstring
        # Functions inside functions are details; classes inside `if` and `try` are rare.
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting.extend(reversed(node.body))


def english_sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring that read as English."""
    for paragraph in _paragraphs(inspect.cleandoc(docstring).splitlines()):
        for pattern, replacement in MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        for sentence in split_sentences(paragraph, layout="paragraph", language="en"):
            if _reads_as_english(sentence):
                yield sentence


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Prose of a docstring, a paragraph or list item a string without line breaks."""
    kept: list[str] = []
    for line in _prose_lines(lines):
        lead = LEAD.match(line)
        if kept and (not line.strip() or lead or _indent(line) > _indent(kept[-1]) + 8):
            yield " ".join(part.strip() for part in kept)
            kept = []
        line = line[lead.end() :] if lead else line
        if line.strip():
            kept.append(line)
    if kept:
        yield " ".join(part.strip() for part in kept)


def _prose_lines(lines: list[str]) -> Iterator[str]:
    """Lines of prose; a blank one for code, a table, a heading, a directive or the name of a parameter."""
    in_fence = in_code = False
    block_indent: int | None = None
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if FENCE.match(line):
            in_fence = not in_fence
        in_code = bool(CODE_START.match(line)) or (in_code and bool(line.strip()))
        if block_indent is not None and line.strip() and _indent(line) <= block_indent:
            block_indent = None
        no_prose = TABLE.fullmatch(line) or DIRECTIVE.fullmatch(line) or PARAMETER.fullmatch(line)
        heading = UNDERLINE.fullmatch(line) or (UNDERLINE.fullmatch(following) and line.strip())
        if in_fence or in_code or block_indent is not None or no_prose or heading or FENCE.match(line):
            yield ""
            continue
        if line.rstrip().endswith("::"):
            block_indent = _indent(line)
            line = line.rstrip()[:-1]
        yield line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _reads_as_english(sentence: str) -> bool:
    words = sentence.split()
    return (
        len(words) >= LEAST_WORDS
        and SENTENCE.fullmatch(sentence) is not None
        and sentence.isascii()
        and len(CODE_MARKS.findall(sentence)) <= MOST_CODE_MARKS_A_WORD * len(words)
        and len(NEITHER_LETTER_NOR_SPACE.findall(sentence)) <= 0.2 * len(sentence)
    )
