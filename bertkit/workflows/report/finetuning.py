"""The chapter of a fine-tuning run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bertkit.workflows.figures import duration, printed
from bertkit.workflows.report.blocks import Block, Cell, Chapter, Note, Number, Row, Section, Table, Tile, Tiles
from bertkit.workflows.report.charts import Form
from bertkit.workflows.report.curves import Logged, finetuning_charts, optimisation_charts
from bertkit.workflows.report.facts import amount, log_notes, settings_section, status_of
from bertkit.workflows.report.parts import percent
from bertkit.workflows.report.predictions import prediction_sections, scores_on_other_data
from bertkit.workflows.report.subjects import Subject
from bertkit.workflows.report.svg import picture
from bertkit.workflows.selection import collapse_remedy

_MOST_FIGURES: Final = 6


def finetuning_chapter(subject: Subject, salt: str) -> Chapter:
    """All that is known of a run of fine-tuning."""
    logged = Logged(subject.name, subject.history)
    figures = figures_of(subject)
    chosen = dict(list(figures.items())[:_MOST_FIGURES])
    training = [picture(chart, salt) for chart in finetuning_charts([logged], chosen, forms_of(figures))]
    optimisation = [picture(chart, salt) for chart in optimisation_charts([logged])]
    sections = [
        Section(
            "Summary",
            [Tiles(_tiles(subject)), *_findings(subject), *log_notes(subject), *_scores(subject), *_layers(subject)],
        ),
        *(prediction_sections(subject.run, salt) if subject.results else []),
        *([Section("Training", [Row(training), Row(optimisation, narrow=True)])] if training else []),
        settings_section(subject),
    ]
    task = subject.results.get("task") or subject.config["task"].get("name") or "own data"
    return Chapter(subject.name, subject.name, f"Fine-tuning on {task} · {status_of(subject)}", sections)


def figures_of(subject: Subject) -> dict[str, str]:
    """The columns of evaluations that are shares, correlations or errors, with their names; the headline first."""
    counts = ("num_examples", "total", "correct", "predicted", "gold", "num_tokens")
    found = dict.fromkeys(name for row in subject.history.evaluations for name in row if name != "step")
    names = [name for name in found if not name.endswith(counts) and "thresh" not in name]
    headline, splits = subject.results.get("headline"), list(subject.results.get("scores", {}))
    return {name: _named(name, splits) for name in sorted(names, key=lambda name: name != headline)}


def _named(column: str, splits: Sequence[str]) -> str:
    """`dev_macro_f1` as macro f1, or as macro f1 on dev where there are several splits."""
    for split in splits:
        if column.startswith(f"{split}_"):
            figure = column.removeprefix(f"{split}_").replace("_", " ")
            return figure if len(splits) == 1 else f"{figure} on {split}"
    return column


def forms_of(figures: Iterable[str]) -> dict[str, Form]:
    """How the values of every figure are written: SQuAD's are percent already, correlations and errors are plain."""
    plain = ("mse", "pearson", "spearman", "f1", "exact")
    squad = any(name.endswith("exact") for name in figures)
    return {
        name: "plain"
        if name.endswith(("mse", "pearson", "spearman")) or (squad and name.endswith(plain))
        else "percent"
        for name in figures
    }


def _tiles(subject: Subject) -> list[Tile]:
    results = subject.results
    tiles = []
    for split, scores in results.get("scores", {}).items():
        name = headline_in(results, split)
        if name is not None:
            value = printed(name, scores[name], results["problem"])
            tiles.append(Tile(f"{name.replace('_', ' ')} on {split}", value, f"{scores['num_examples']:,} examples"))
    if results:
        tiles += [
            Tile(
                "Best checkpoint", f"step {results['best_step']:,}", f"of {results['step']:,}, by {results['headline']}"
            ),
            Tile("Training examples", f"{results['num_train_examples']:,}", f"seed {results.get('seed', 'unknown')}"),
            Tile("Time", duration(results["elapsed_s"]), f"{amount(results.get('tokens_per_s', 0))} tokens a second"),
        ]
    elif subject.history.training:
        last = subject.history.training[-1]
        tiles.append(Tile("Trained", f"{last['step']:,} steps", f"loss {last['loss']:.3f}"))
    return tiles


def headline_in(results: Mapping[str, Any], split: str) -> str | None:
    """The figure that chose the checkpoint, by the name it has in the scores of a split."""
    scores = results["scores"][split]
    first = next(iter(results["scores"]))
    name = str(results["headline"]).removeprefix(f"{first}_")
    return name if isinstance(scores.get(name), int | float) else None


def _findings(subject: Subject) -> list[Block]:
    results = subject.results
    if not results:
        return [Note("The run is not finished: the same bertkit finetune command goes on with it.", "warning")]
    found: list[Block] = []
    if results["collapsed"]:
        remedy = collapse_remedy(subject.config.get("model") or {})
        text = f"The run collapsed: {results['collapsed']}. {remedy[0].upper()}{remedy[1:]}."
        found.append(Note(text, "warning"))
    if results.get("share_cut", 0) >= 0.01:
        share = f"{100 * results['share_cut']:.1f} %"
        found.append(Note(f"{share} of the training examples were cut at task.max_seq_length.", "warning"))
    return found


def _scores(subject: Subject) -> list[Block]:
    """One row a figure, one column a split."""
    results = subject.results
    splits = results.get("scores", {}) | (scores_on_other_data(subject.run) if results else {})
    names = dict.fromkeys(
        name for scores in splits.values() for name, value in scores.items() if isinstance(value, int | float)
    )
    rows: list[Sequence[Cell]] = [
        (
            name.removeprefix("num_").replace("_", " "),
            *(_cell(name, scores.get(name), results["problem"]) for scores in splits.values()),
        )
        for name in names
    ]
    return [Table("Scores", ("figure", *splits), rows)] if rows else []


def _layers(subject: Subject) -> list[Block]:
    """How much of each layer of the encoder a BiLSTM above it reads, where it learned that."""
    shares: Mapping[str, float] = subject.results.get("layer_shares") or {}
    rows: list[Sequence[Cell]] = [(name, percent(share, bar=True)) for name, share in shares.items()]
    return [Table("Layers that the BiLSTM reads", ("layer", "share"), rows)] if rows else []


def _cell(name: str, value: Any, problem: str) -> Cell:
    return Number(printed(name, value, problem), float(value)) if isinstance(value, int | float) else None
