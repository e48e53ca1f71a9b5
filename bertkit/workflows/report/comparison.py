"""The chapter that lays several runs over one another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import Any, Final

from bertkit.hub.places import without_places
from bertkit.workflows.figures import printed
from bertkit.workflows.report.blocks import Block, Cell, Chapter, Note, Number, Row, Section, Table
from bertkit.workflows.report.charts import Chart
from bertkit.workflows.report.curves import Logged, finetuning_charts, optimisation_charts, pretraining_charts
from bertkit.workflows.report.facts import flat, shown
from bertkit.workflows.report.finetuning import figures_of, forms_of
from bertkit.workflows.report.subjects import Subject, title_of_pairs
from bertkit.workflows.report.svg import picture

_MOST_OVERLAID: Final = 12
_MOST_FIGURES: Final = 4
_HELDOUT_NAMES: Final = {
    "mlm_loss": "masked LM loss",
    "mlm_accuracy": "masked LM accuracy",
    "mlm_perplexity": "masked LM perplexity",
    "lm_loss": "LM loss",
    "lm_accuracy": "LM accuracy",
    "lm_perplexity": "LM perplexity",
    "unigram_entropy": "loss of word frequencies alone",
    "nsp_loss": "{pairs} loss",
    "nsp_accuracy": "{pairs} accuracy",
    "nsp_majority": "accuracy of always the same answer",
}


def comparison_chapter(subjects: Sequence[Subject], title: str, salt: str) -> Chapter:
    """Scores side by side, settings that differ, and curves over one another."""
    sections = [Section("Scores", _score_tables(subjects)), Section("Settings that differ", _differing(subjects))]
    drawn = subjects[:_MOST_OVERLAID]
    logged = [Logged(subject.name, subject.history) for subject in drawn]
    pretrained = [each for each, subject in zip(logged, drawn, strict=True) if not subject.is_finetuning]
    charts: list[Chart] = pretraining_charts(pretrained, pairs=title_of_pairs(drawn)) if pretrained else []
    for task, of_task in _by_task(drawn).items():
        figures = _figures_in_common(of_task)
        runs = [Logged(subject.name, subject.history) for subject in of_task]
        several = len(_by_task(drawn)) > 1
        charts += _renamed(finetuning_charts(runs, figures, forms_of(figures)), task if several else "")
    optimisation = optimisation_charts(logged)
    if charts or optimisation:
        note = [Note(f"The first {_MOST_OVERLAID} of {len(subjects)} runs.")] if len(drawn) < len(subjects) else []
        pictures = [picture(chart, f"{salt}-{number}") for number, chart in enumerate(charts)]
        small = [picture(chart, salt) for chart in optimisation]
        lead = "Thin: training. With dots: evaluations."
        sections.append(Section("Curves over one another", [*note, Row(pictures), Row(small, narrow=True)], lead))
    names = ", ".join(subject.name for subject in subjects[:6]) + (", …" if len(subjects) > 6 else "")
    return Chapter("All runs", title, names, sections)


def _score_tables(subjects: Sequence[Subject]) -> list[Block]:
    """One table a kind of run: a row a figure, a column a run, then mean and deviation where only the seed differs."""
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(_kind(subject), []).append(subject)
    tables: list[Block] = [_score_table(kind, group) for kind, group in groups.items()]
    unfinished = [subject.name for subject in subjects if not subject.results]
    if unfinished:
        tables.append(Note(f"Not finished: {', '.join(unfinished)}.", "warning"))
    collapsed = [f"{each.name} ({each.results['collapsed']})" for each in subjects if each.results.get("collapsed")]
    if collapsed:
        tables.append(Note(f"Collapsed: {', '.join(collapsed)}.", "warning"))
    return tables


def _score_table(kind: str, subjects: Sequence[Subject]) -> Table:
    scores = [_figures(subject) for subject in subjects]
    are_seeds = len(subjects) > 1 and set(_differences(subjects)) <= {"train.seed"}
    rows: list[Sequence[Cell]] = []
    for name in dict.fromkeys(name for each in scores for name in each):
        values = [each[name].value for each in scores if name in each]
        row: list[Cell] = [name.replace("_", " "), *(each.get(name) for each in scores)]
        if are_seeds and len(values) > 1:
            shape = scores[0][name].shown
            row += [_like(shape, mean(values)), _like(shape, stdev(values))]
        rows.append(row)
    header = ["figure", *(subject.name for subject in subjects), *(["mean", "deviation"] if are_seeds else [])]
    return Table(kind, header, rows)


def _figures(subject: Subject) -> dict[str, Number]:
    """Every score of a run as it is printed."""
    results = subject.results
    if subject.is_finetuning:
        return {
            f"{split}: {name}": Number(printed(name, value, results["problem"]), float(value))
            for split, scores in results.get("scores", {}).items()
            for name, value in scores.items()
            if isinstance(value, float)
        }
    heldout: Mapping[str, Any] = results.get("heldout", {})
    pairs = title_of_pairs([subject])
    return {
        _HELDOUT_NAMES.get(name, name).format(pairs=pairs): Number(
            f"{100 * value:.1f} %" if "accuracy" in name or "majority" in name else f"{value:,.3f}", value
        )
        for name, value in heldout.items()
        if isinstance(value, float)
    }


def _like(shape: str, value: float) -> Number:
    """A number written as another one is."""
    if shape.endswith("%"):
        return Number(f"{100 * value:.2f} %", value)
    decimals = len(shape.partition(".")[2])
    return Number(f"{value:,.{decimals}f}", value)


def _kind(subject: Subject) -> str:
    if not subject.is_finetuning:
        # Losses of words that are masked and of words that are yet to come are two quantities.
        is_of_next = "lm_loss" in subject.results.get("heldout", {})
        return "Pre-training, held-out text, words to come" if is_of_next else "Pre-training, held-out text"
    return f"Fine-tuning on {_task(subject)}"


def _task(subject: Subject) -> str:
    return str(subject.results.get("task") or subject.config["task"].get("name") or subject.config["task"].get("train"))


def _by_task(subjects: Sequence[Subject]) -> dict[str, list[Subject]]:
    found: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.is_finetuning:
            found.setdefault(_task(subject), []).append(subject)
    return found


def _figures_in_common(subjects: Sequence[Subject]) -> dict[str, str]:
    found = [figures_of(subject) for subject in subjects]
    common = [column for column in found[0] if all(column in each for each in found)]
    return {column: found[0][column] for column in common[:_MOST_FIGURES]}


def _renamed(charts: Sequence[Chart], task: str) -> list[Chart]:
    return [replace(chart, title=f"{task}: {chart.title}") if task else chart for chart in charts]


def _differing(subjects: Sequence[Subject]) -> list[Block]:
    differences = _differences(subjects)
    if not differences:
        return [Note("All settings are the same.")]
    rows: list[Sequence[Cell]] = [(key, *(shown(value) for value in values)) for key, values in differences.items()]
    return [Table("Settings that differ", ("setting", *(subject.name for subject in subjects)), rows)]


def _differences(subjects: Sequence[Subject]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs, by dotted name, with the value of each."""
    settings = [flat(without_places(subject.config)) for subject in subjects]
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: [each.get(key) for each in settings] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found[1:])}
