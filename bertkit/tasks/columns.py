"""Which columns of the user's own file mean what: as the user says, and guessed only where there is no doubt."""

import difflib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bertkit.errors import TaskError
from bertkit.tasks.spec import ProblemName

logger = logging.getLogger(__name__)

COLUMNS_NAMED: Final = 30
LABEL_NAMES: Final = frozenset(
    (
        "label",
        "labels",
        "class",
        "category",
        "target",
        "gold_label",
        "intent",
        "sentiment",
        "topic",
        "score",
        "quality",
        "is_duplicate",
    )
)
TEXT_NAMES: Final = frozenset(
    ("text", "sentence", "review", "utterance", "comment", "tweet", "content", "document", "body", "message")
)
TEXT_PAIRS: Final = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("#1 string", "#2 string"),
)
WORD_NAMES: Final = frozenset(("tokens", "words"))
TAG_NAMES: Final = frozenset(("tags", "ner_tags", "labels", "pos_tags"))
ANSWER_NAMES: Final = frozenset(("answers", "answer", "answer_text"))
CHOICE_LISTS: Final = frozenset(("choices", "endings", "options"))
CHOICE_NAME: Final = re.compile(r"(ending|choice|option|answer)[ _-]?(\d+|[a-j])", re.IGNORECASE)
CONTEXT_NAMES: Final = frozenset(("context", "prompt", "question", "sent1", "text"))
# Never a text: what says which row it is.
KEY_NAMES: Final = frozenset(("", "id", "idx", "index", "guid", "unnamed: 0", "key"))


@dataclass(frozen=True)
class Columns:
    """Columns by name; what is left empty is guessed where there is no doubt.

    texts: one text or two; the words (tagging); question and context (span_qa); the context and, where there is one,
    the start that all choices share (multiple_choice). label: its column, or, separated by commas, a column of 0 and 1
    for each label; the answer (span_qa). choices: a column a choice, or one of lists. answer_start: the character at
    which the answer starts. key: the row's own id. separator: what stands between labels in one cell; None: | or ;.
    """

    texts: tuple[str, ...] = ()
    label: str | None = None
    choices: tuple[str, ...] = ()
    answer_start: str | None = None
    key: str | None = None
    separator: str | None = None

    def asked(self, names: Iterable[str] = ()) -> tuple[str, ...]:
        """Every column named here; a list of labels stands for its parts unless a column of `names` has its name."""
        single = (self.answer_start, self.key)
        return (*self.texts, *self.label_columns(names), *self.choices, *(name for name in single if name is not None))

    def label_columns(self, names: Iterable[str] = ()) -> tuple[str, ...]:
        """The columns of the label: several where each is 0 or 1 for one of them."""
        if self.label is None:
            return ()
        if self.label in names or "," not in self.label:
            return (self.label,)
        return tuple(part.strip() for part in self.label.split(",") if part.strip())


@dataclass(frozen=True)
class Header:
    """What is known of a file before it is read: its name, its columns in order, those that hold text."""

    file: str
    names: tuple[str, ...]
    textual: tuple[str, ...]

    @classmethod
    def of(cls, file: str, rows: Sequence[Mapping[str, Any]]) -> "Header":
        """The columns of the first rows."""
        names = tuple(dict.fromkeys(str(name) for row in rows for name in row))
        return cls(file, names, tuple(name for name in names if any(_is_text(row.get(name)) for row in rows)))

    def known(self, wanted: Iterable[str]) -> list[str]:
        """The columns whose name, whatever its case, is one of `wanted`."""
        return [name for name in self.names if name.strip().lower() in wanted]

    def doubt(self, question: str, option: str) -> TaskError:
        """The error for a column that cannot be guessed."""
        return TaskError(f"{self.file}: {question}? {self._listed()}: name it with {option}{self._without_header()}")

    def require(self, names: Iterable[str], option: str) -> None:
        """Raise TaskError for the first name that is no column."""
        for name in names:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, n=1)
                hint = f", perhaps {near[0]!r}" if near else ""
                raise TaskError(
                    f"{self.file} has no column {name!r}. {self._listed()}: name one of them with {option}{hint}"
                )

    def _listed(self) -> str:
        named = ", ".join(repr(name) for name in self.names[:COLUMNS_NAMED])
        return f"It has {named}" + (", ..." if len(self.names) > COLUMNS_NAMED else "")

    def _without_header(self) -> str:
        if ".csv" in self.file.lower() or ".tsv" in self.file.lower():
            return "; if the first line is no header, give numbers from 0"
        return ""


def complete(columns: Columns, problem: ProblemName, header: Header, *, with_labels: bool) -> Columns:
    """The columns of a file, those left open guessed.

    Raises TaskError when one is not there, or may be one of several: it lists those there are.
    """
    completed = _with_choices(columns, header) if problem == "multiple_choice" else columns
    completed = replace(completed, label=_label(completed, problem, header, required=with_labels))
    completed = replace(completed, texts=completed.texts or _guess_texts(completed, problem, header))
    completed = replace(completed, key=completed.key or _only(header.known(("id",))))
    if problem == "span_qa" and completed.label is not None:
        completed = replace(completed, answer_start=completed.answer_start or _only(header.known(("answer_start",))))
    _require_all(completed, problem, header)
    guessed = _guessed(columns, completed)
    if guessed:
        logger.info("%s", f"{header.file}: guessed from the names of its columns: {guessed}")
    return completed


def _label(columns: Columns, problem: ProblemName, header: Header, *, required: bool) -> str | None:
    if columns.label is not None:
        there = set(columns.label_columns(header.names)) <= set(header.names)
        # What is to be predicted needs no label.
        return columns.label if required or there else None
    known = {"tagging": TAG_NAMES, "span_qa": ANSWER_NAMES}.get(problem, LABEL_NAMES)
    found = [name for name in header.known(known) if name not in columns.texts + columns.choices]
    if len(found) != 1 and required:
        raise header.doubt(f"which column is {_label_word(problem)}", "--label")
    return found[0] if len(found) == 1 else None


def _label_word(problem: ProblemName) -> str:
    return {"tagging": "the list of tags", "span_qa": "the answer"}.get(problem, "the label")


def _guess_texts(columns: Columns, problem: ProblemName, header: Header) -> tuple[str, ...]:
    if problem == "tagging":
        return _one(header, WORD_NAMES, "which column is the list of words")
    if problem == "span_qa":
        return (
            *_one(header, ("question",), "which column is the question, which the context"),
            *_one(header, ("context",), "which column is the question, which the context"),
        )
    if problem == "multiple_choice":
        return _guess_context(columns, header)
    return _guess_plain_texts(columns, header)


def _one(header: Header, known: Iterable[str], question: str) -> tuple[str, ...]:
    found = header.known(known)
    if len(found) != 1:
        raise header.doubt(question, "--text")
    return (found[0],)


def _guess_context(columns: Columns, header: Header) -> tuple[str, ...]:
    if shared := header.known(("sent2",)):
        # SWAG: every ending continues the second sentence.
        return (*_one(header, ("sent1",), "which column is the context"), *shared)
    left = Header(header.file, tuple(name for name in header.names if name not in columns.choices), ())
    if len(left.known(CONTEXT_NAMES)) != 1:
        raise header.doubt("which column is the context", "--text")
    return (left.known(CONTEXT_NAMES)[0],)


def _guess_plain_texts(columns: Columns, header: Header) -> tuple[str, ...]:
    labels = columns.label_columns(header.names)
    left = Header(header.file, tuple(name for name in header.names if name not in labels), header.textual)
    pairs = [found for pair in TEXT_PAIRS if len(found := [n for name in pair for n in left.known((name,))]) == 2]
    paired = {name for pair in pairs for name in pair}
    singles = [name for name in left.known(TEXT_NAMES) if name not in paired]
    if len(pairs) == 1 and not singles:
        return tuple(pairs[0])
    if not pairs and len(singles) == 1:
        return (singles[0],)
    others = [name for name in left.names if name in left.textual and name.strip().lower() not in KEY_NAMES]
    if not pairs and not singles and len(others) == 1:
        return (others[0],)
    raise header.doubt("which column is the text", "--text (twice for a pair)")


def _with_choices(columns: Columns, header: Header) -> Columns:
    if columns.choices:
        return columns
    numbered = [name for name in header.names if CHOICE_NAME.fullmatch(name.strip())]
    kinds = {match[1].lower() for name in numbered if (match := CHOICE_NAME.fullmatch(name.strip()))}
    if len(kinds) == 1 and len(numbered) > 1:
        return replace(columns, choices=tuple(sorted(numbered, key=lambda name: (len(name), name))))
    lists = header.known(CHOICE_LISTS)
    if len(lists) != 1:
        raise header.doubt("which columns are the choices", "--choice")
    return replace(columns, choices=(lists[0],))


def _require_all(columns: Columns, problem: ProblemName, header: Header) -> None:
    header.require(columns.texts, "--text")
    header.require(columns.label_columns(header.names), "--label")
    header.require(columns.choices, "--choice")
    header.require([name for name in (columns.key, columns.answer_start) if name is not None], "its option")
    wanted = {"tagging": (1,), "span_qa": (2,)}.get(problem, (1, 2))
    if len(columns.texts) not in wanted:
        how_many = (
            "a question and a context" if problem == "span_qa" else "one column" if wanted == (1,) else "one or two"
        )
        raise TaskError(f"{header.file}: {len(columns.texts)} columns of text are named; {problem} takes {how_many}")
    if set(columns.texts) & set(columns.label_columns(header.names)):
        raise TaskError(
            f"{header.file}: {columns.label!r} is named as text and as label: name another one with --label"
        )


def _guessed(given: Columns, completed: Columns) -> str:
    pairs = (
        ("text", given.texts, " + ".join(map(repr, completed.texts))),
        ("label", given.label, repr(completed.label) if completed.label is not None else ""),
        ("choices", given.choices, ", ".join(map(repr, completed.choices))),
        ("id", given.key, repr(completed.key) if completed.key is not None else ""),
    )
    return ", ".join(f"{word} {value}" for word, before, value in pairs if not before and value)


def _only(found: Sequence[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False
