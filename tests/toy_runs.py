"""Run folders as bertkit leaves them, written by hand in a moment: what a report reads, without any training."""

import json
from pathlib import Path

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import dump_config, validate_config
from bertkit.tasks.spec import Answer, TaskSpec
from bertkit.workflows.scoring import Judged, score_splits, write_predictions

METRICS = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson", "mse"),
    "multi_label": ("multi_label",),
    "tagging": ("tagging",),
    "span_qa": ("squad_v2",),
    "multiple_choice": ("accuracy",),
}


def write_run(
    folder: Path, problem: str, judged: dict[str, list[Judged]], *, seed: int = 0, logs: bool = False, **options
) -> Path:
    """A finished fine-tuning run whose predictions are `judged`; if it `logs`, it has curves, which take time."""
    folder.mkdir(parents=True)
    metrics = METRICS[problem]
    spec = TaskSpec("toy", problem, ("text",), metrics=metrics)
    config = validate_config(
        FinetuneConfig, {"task": {"train": "toy.csv", "problem": problem}, "train": {"seed": seed}}, source="test"
    )
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    environment = {"bertkit": "0.1.0", "command": ["bertkit", "finetune"], "devices": ["cpu"], "packages": {}}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    write_predictions(folder / "predictions.jsonl", judged)
    scores = score_splits(spec, judged, null_threshold=options.get("null_threshold"))
    first, figures = next(iter(scores.items()))
    headline = f"{first}_{next(iter(figures))}"
    results = {
        "task": "toy", "problem": problem, "seed": seed, "step": 20, "best_step": 10, "scores": scores,
        "headline": headline, "collapsed": None, "attempts": 1, "num_train_examples": 64, "elapsed_s": 3.0,
        "tokens_per_s": 900.0, "options": {"task": "toy", "problem": problem, "metrics": list(metrics), **options},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    if not logs:
        return folder
    rows = [
        {"step": s, "loss": 2.0 / s, "grad_norm": 1.0, "learning_rate": 1e-5 * s, "tokens_per_s": 900.0,
         "tokens": 100 * s, "elapsed_s": 0.1 * s} for s in range(1, 21)
    ]  # fmt: skip
    rows += [{"step": s, headline: value} for s, value in ((10, 0.5), (20, 0.75))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def judged_labels(number: int = 60, *, labels=("ham", "spam", "eggs"), text="{n} is a text about {label}"):
    """Two in three are right, and the more confident the sooner."""
    rows = []
    for n in range(number):
        gold, share = labels[n % len(labels)], 0.4 + 0.5 * (n % 7) / 7
        guess = labels[(n + (n % 3 == 0)) % len(labels)]
        others = {name: round((1 - share) / (len(labels) - 1), 6) for name in labels if name != guess}
        texts = (text.format(n=n, label=gold) + " and more" * (n % 5),)
        rows.append(Judged(f"row {n}", guess, gold, share, {"probabilities": {guess: share, **others}}, texts=texts))
    return rows


def judged_numbers(number: int = 40):
    return [Judged(f"{n}", round(0.9 * n + (n % 5), 3), float(n), texts=(f"text {n}", "b" * n)) for n in range(number)]


def judged_sets(number: int = 30):
    rows = []
    for n in range(number):
        shares = {"red": 0.9 if n % 2 else 0.2, "round": 0.7 if n % 3 else 0.4, "sweet": 0.1}
        guess = tuple(name for name, share in shares.items() if share >= 0.5)
        gold = tuple(name for name, has in (("red", n % 2), ("round", n % 4), ("sweet", n % 10 == 0)) if has)
        rows.append(Judged(f"{n}", guess, gold, details={"probabilities": shares}, texts=(f"fruit {n}",)))
    return rows


def judged_tags(number: int = 20):
    rows = []
    for n in range(number):
        words = ("Ann", "Lee", "saw", "Rome", "again")
        gold = ("B-PER", "I-PER", "O", "B-LOC", "O")
        guess = (*gold[:3], "B-PER" if n % 4 == 0 else "B-LOC", "O")
        rows.append(Judged(f"{n}", guess, gold, 0.8, {"probabilities": [0.9, 0.8, 0.99, 0.6, 0.7]}, texts=words))
    return rows


def judged_answers(number: int = 24):
    context = "It is well known that " + "the old tower of Pisa was begun in 1173 and leans to one side. " * 6
    rows = []
    for n in range(number):
        text, wrong = ("1173", "Pisa")
        start = context.index(text)
        gold = () if n % 4 == 0 else (Answer(text, start),)
        span = text if n % 3 else wrong
        at = context.index(span)
        difference = (2.0 if n % 4 == 0 else -2.0) + 0.1 * n
        guess = "" if difference > 1.0 else span
        details = {"start": at, "end": at + len(span), "best_span": span, "null_score_difference": difference}
        question = ("When was it begun?", "Where does it stand, the tower?", "Who built it?")[n % 3]
        rows.append(Judged(f"{n}", guess, gold, 0.3 + 0.02 * n, details, texts=(question, context)))
    return rows


def judged_choices(number: int = 20):
    return [
        Judged(
            f"{n}", n % 2, (n // 2) % 2, 0.6, {"probabilities": [0.6, 0.4] if n % 2 == 0 else [0.4, 0.6]},
            texts=(f"She opened door {n}", "and went in.", "and ate it."),
        )
        for n in range(number)
    ]  # fmt: skip


JUDGED = {
    "classification": judged_labels,
    "regression": judged_numbers,
    "multi_label": judged_sets,
    "tagging": judged_tags,
    "span_qa": judged_answers,
    "multiple_choice": judged_choices,
}
