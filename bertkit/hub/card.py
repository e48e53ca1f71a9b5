"""The model card: metadata that the Hub understands and a page for people, from values that a workflow gives."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCard, ModelCardData

_TEMPLATE: Final = "card.md.jinja"
# The last line, of which no reader sees anything: whoever changes a letter above it has made the card their own.
_SEAL: Final = "<!-- bertkit wrote all of the above: {} -->\n"


@dataclass(frozen=True)
class Scored:
    """One figure of one split: `metric` as the Hub calls it; `over_seeds` and `baseline` as people read them.

    The metadata tell the first figure of every metric and split, and none that is not `in_metadata`.
    """

    split: str
    name: str
    metric: str
    value: float
    shown: str
    over_seeds: str = ""
    baseline: str = ""
    in_metadata: bool = True


@dataclass(frozen=True)
class Data:
    """What was scored: its id on the Hub or what its files are called, and how the Hub finds it there."""

    name: str
    hub_id: str | None = None
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class CardContent:
    """Everything a card says; `trained` are rows of a table, `limits` sentences, `image` a path in the repository."""

    repo_id: str
    about: str
    pipeline_tag: str
    task_name: str
    tags: Sequence[str]
    data: Data
    scored: Sequence[Scored]
    usage: str
    trained: Sequence[tuple[str, str]]
    command: str
    config: str
    limits: Sequence[str]
    notes: Sequence[str] = ()
    datasets: Sequence[str] = ()
    base_model: str | None = None
    language: str | None = None
    license: str | None = None
    image: str | None = None
    is_finetuned: bool = False


def build_card(content: CardContent) -> ModelCard:
    """The card as huggingface_hub has it; its text is `card.content`."""
    card: Any = ModelCard.from_template(
        _metadata(content),
        template_str=files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"),
        title=content.repo_id.rpartition("/")[2],
        card=content,
        results=_results_table(content.scored),
        training=_table(("", ""), content.trained),
        cell=cell,
        fence=_fence,
    )
    text = card.content.rstrip("\n") + "\n\n"
    card.content = text + _SEAL.format(_digest(text.encode()))
    return card  # type: ignore[no-any-return]


def is_own(content: bytes) -> bool:
    """Whether this is, byte for byte, a card that `build_card` made."""
    above, line = content[: content[:-1].rfind(b"\n") + 1], content[content[:-1].rfind(b"\n") + 1 :]
    return line == _SEAL.format(_digest(above)).encode()


def cell(text: str) -> str:
    """Text as a cell of a Markdown table or a line of a list: one line, nothing in it is markup."""
    for character, escaped in (
        ("\\", "\\\\"),
        ("`", "\\`"),
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("|", "\\|"),
        ("[", "\\["),
        ("*", "\\*"),
        ("_", "\\_"),
    ):
        text = text.replace(character, escaped)
    return " ".join(text.split())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _fence(text: str) -> str:
    """What code stands between: longer than any such line in it."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _results_table(scored: Sequence[Scored]) -> str:
    header = ("split", "figure", "this model", "mean ± deviation", "to beat")
    rows = [(each.split, each.name, _shown(each), each.over_seeds, each.baseline) for each in scored]
    told = [column for column in range(len(header)) if any(row[column] for row in rows)]
    return _table([header[column] for column in told], [[row[column] for column in told] for row in rows])


def _shown(scored: Scored) -> str:
    return scored.shown if math.isfinite(scored.value) else "not a number" if math.isnan(scored.value) else "infinite"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _metadata(content: CardContent) -> ModelCardData:
    told = _in_metadata(content.scored)
    results = [_result(content, each) for each in told]
    metrics = list(dict.fromkeys(each.metric for each in told))
    return ModelCardData(
        language=content.language,
        license=content.license,
        library_name="transformers",
        pipeline_tag=content.pipeline_tag,
        tags=["bertkit", *content.tags],
        base_model=content.base_model,
        datasets=list(content.datasets) or None,
        metrics=metrics or None,
        model_name=content.repo_id.rpartition("/")[2],
        eval_results=results or None,
    )


def _in_metadata(scored: Sequence[Scored]) -> list[Scored]:
    firsts: dict[tuple[str, str], Scored] = {}
    for each in scored:
        # JSON has no word for what is no number, and two figures of one metric would be taken for one.
        if each.in_metadata and math.isfinite(each.value):
            firsts.setdefault((each.split, each.metric), each)
    return list(firsts.values())


def _result(content: CardContent, scored: Scored) -> EvalResult:
    data = content.data
    return EvalResult(
        task_type=content.pipeline_tag,
        task_name=content.task_name,
        dataset_type=data.hub_id or data.name,
        dataset_name=data.name,
        dataset_config=data.config,
        dataset_revision=data.revision,
        dataset_split=scored.split,
        metric_type=scored.metric,
        metric_name=scored.name,
        metric_value=round(scored.value, 6),
    )
