"""What a task is: one frozen value that says where its examples are, what they mean and how they are scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

ProblemName = Literal["classification", "regression", "multi_label", "tagging", "span_qa", "multiple_choice"]


@dataclass(frozen=True)
class Answer:
    """A span of a context: its text and the character it starts at."""

    text: str
    start: int


# str; a number; names of labels; one tag a word; answers, none where there is none; the right choice, from 0.
Label = str | float | tuple[str, ...] | tuple[Answer, ...] | int


@dataclass(frozen=True)
class Example:
    """One row of a task.

    key: the row's own id, or its place. place: where a user finds it, such as train.csv:17.
    texts: one text or two (classification, regression, multi_label); the words of a sentence (tagging); question and
    context (span_qa); the context, then every choice (multiple_choice).
    label: by name and never by id; None where the row has none.
    columns: the row as it was read, for whoever hands it back.
    """

    key: str
    place: str
    texts: tuple[str, ...]
    label: Label | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub, as parquet; no script is ever run."""

    repo: str
    config: str | None = None
    revision: str | None = None


GLUE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train.tsv",),
    "validation": ("dev.tsv",),
    "validation_matched": ("dev_matched.tsv", "dev.tsv"),
    "validation_mismatched": ("dev_mismatched.tsv",),
    "test": ("test.tsv",),
    "test_matched": ("test_matched.tsv", "test.tsv"),
    "test_mismatched": ("test_mismatched.tsv",),
}


@dataclass(frozen=True)
class GlueFiles:
    """One folder of the original GLUE download: tab-separated, quotes are literal.

    texts and label name columns of the header, or, where `has_header` is False, count columns from 0; test files have a
    header always. The columns of a test file are those of its texts' names. names: split -> the files it may be called,
    the first that is there. download: where a user gets the folder.
    """

    folder: str
    texts: tuple[str | int, ...]
    label: str | int | None
    has_header: bool = True
    names: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: GLUE_NAMES)
    download: str = "the GLUE download (https://gluebenchmark.com/tasks)"


@dataclass(frozen=True)
class Files:
    """Files of another original layout: split -> the names it goes by, the format they are in, where to get them."""

    format: Literal["squad", "conll", "swag"]
    names: Mapping[str, tuple[str, ...]]
    folder: str = ""
    download: str = "the original download"


@dataclass(frozen=True)
class Splits:
    """Names of the splits, as the Hub has them: one to train on, any number to score and to predict."""

    train: str | None = "train"
    evaluate: tuple[str, ...] = ("validation",)
    predict: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinetuneDefaults:
    """What the paper, or who came after, found to work; a config may say otherwise."""

    learning_rate: float = 3e-5
    epochs: float = 3.0
    global_batch_size: int = 32
    max_seq_length: int = 128
    doc_stride: int | None = None


@dataclass(frozen=True)
class TaskSpec:
    """One task (DESIGN 8). `metrics` name entries of `bertkit.tasks.scoring`; the first chooses the best checkpoint.

    texts and label are columns of the Hub data set. labels: names in the order of the Hub's ids; empty where the data
    says. columns: others that its metrics need. positive: the label that F1 is about. submission: the leaderboard's
    file name for each split of `splits.predict`; submission_labels: what it calls our labels. scored_with: the task
    whose model predicts this one, which has no training split.
    """

    name: str
    problem: ProblemName
    texts: tuple[str, ...]
    label: str = "label"
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    source: HubSource | None = None
    files: GlueFiles | Files | None = None
    splits: Splits = Splits()
    metrics: tuple[str, ...] = ("accuracy",)
    positive: str | None = None
    defaults: FinetuneDefaults = FinetuneDefaults()
    submission: Mapping[str, str] = field(default_factory=dict)
    submission_labels: Mapping[str, str] = field(default_factory=dict)
    scored_with: str | None = None
