"""What the card of a fine-tuned model says."""

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any, Final

from bertkit.config.schema import Direction
from bertkit.hub.card import CardContent, Data, Scored, cell
from bertkit.hub.places import base_name
from bertkit.hub.usage import usage
from bertkit.tasks.registry import list_tasks
from bertkit.tasks.spec import TaskSpec
from bertkit.workflows.card_rows import (
    BIAS,
    NOT_RECORDED,
    architecture_of,
    base_row,
    cost_rows,
    provenance_of,
    shape_said,
)
from bertkit.workflows.figures import printed
from bertkit.workflows.published import Published
from bertkit.workflows.source import direction_of

_PIPELINE_TAGS: Final = {
    "tagging": "token-classification",
    "span_qa": "question-answering",
    "multiple_choice": "multiple-choice",
}
_KINDS: Final = {
    "classification": "Text classification",
    "regression": "Text regression",
    "multi_label": "Multi-label text classification",
    "tagging": "Token classification",
    "span_qa": "Extractive question answering",
    "multiple_choice": "Multiple choice",
}
# What the Hub's metrics are called where it has them by another name.
_METRICS: Final = {
    "matthews": ("matthews_correlation", "Matthews correlation"),
    "pearson": ("pearsonr", "Pearson correlation"),
    "spearman": ("spearmanr", "Spearman correlation"),
    "macro_f1": ("f1", "Macro F1"),
    "micro_f1": ("f1", "Micro F1"),
    "strict_f1": ("f1", "Strict F1"),
    "best_f1": ("f1", "F1 at the best threshold"),
    "f1": ("f1", "F1"),
    "exact": ("exact_match", "Exact match"),
    "best_exact": ("exact_match", "Exact match at the best threshold"),
    # Of the questions that have an answer and of those that have none; the Hub has no names for these.
    "HasAns_f1": ("HasAns_f1", "HasAns F1"),
    "HasAns_exact": ("HasAns_exact", "HasAns exact match"),
    "NoAns_f1": ("NoAns_f1", "NoAns F1"),
    "NoAns_exact": ("NoAns_exact", "NoAns exact match"),
    "mse": ("mse", "Mean squared error"),
}
_FEW_EXAMPLES: Final = 1000
_LABELS_NAMED: Final = 8


def content_of_finetuned(
    published: Published, config: Mapping[str, Any], repo_id: str, *, with_code: bool = False
) -> CardContent:
    """The card of a fine-tuning run, but for what all cards have alike."""
    results, known = published.results, provenance_of(published.results)
    problem, spec = results["problem"], _spec_of(results["task"])
    base = known.get("base") or {}
    direction = direction_of(architecture_of(published.run))
    source = spec.source if spec else None
    return CardContent(
        repo_id=repo_id,
        about=(
            f"{_KINDS[problem]}: {_model_said(known, config)} on {cell(results['task'])}.{_direction_said(direction)}"
        ),
        pipeline_tag=_PIPELINE_TAGS.get(problem, "text-classification"),
        task_name=_KINDS[problem],
        tags=[
            "elmo" if direction == "bilm" else "bert",
            *([problem.replace("_", "-")] if problem in ("regression", "multi_label") else []),
        ],
        data=Data(
            results["task"],
            hub_id=source.repo if source else None,
            config=source.config if source else None,
            revision=source.revision if source else None,
        ),
        datasets=[source.repo] if source else [],
        base_model=base.get("hub_id"),
        # Every named task is of English text; of other files nobody said.
        language="en" if spec else None,
        scored=_scored(published),
        usage=usage(
            problem,
            repo_id,
            takes_pairs=len(spec.texts if spec else config["task"]["texts"]) == 2,
            has_chunks="tag_accuracy" not in results["options"]["metrics"],
            with_code=with_code,
        ),
        trained=_trained(published, known, config),
        command="",
        config="",
        limits=_limits(published, config),
        notes=[f"{choice}." for choice in (published.choice,) if choice],
        is_finetuned=True,
    )


def _model_said(known: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The model it began with, what was put above it, and which of both were trained."""
    model = config["model"]
    base, above = f"{cell(base_name(model['init_from']))}", model.get("bilstm")
    if above is None:
        return f"{base}{shape_said(known)} fine-tuned"
    reads = "all its layers, by learned shares" if above["layers"] == "weighted-all" else f"{above['layers']} of it"
    bilstm = f"a BiLSTM of {above['num_layers']} layers of {above['size']} that reads {reads}{shape_said(known)}"
    if model["freeze"] == "encoder":
        return f"{base}, frozen, under {bilstm}, trained"
    return f"{base} under {bilstm}, fine-tuned"


def _direction_said(direction: Direction) -> str:
    """How the encoder reads, where it is not as BERT does."""
    return {
        "bidirectional": "",
        "left-to-right": " It reads from left to right: a token sees those before it only.",
        "bilm": " Its encoder is an ELMo-style biLM: LSTMs of both directions that meet in what is above them only.",
    }[direction]


def _spec_of(task: str) -> TaskSpec | None:
    """The named task, None for own files."""
    return next((spec for spec in list_tasks() if spec.name == task), None)


def _scored(published: Published) -> list[Scored]:
    """Every figure of every split; counts and thresholds are none."""
    rows = []
    for split, scores in published.results["scores"].items():
        for name, value in scores.items():
            if isinstance(value, float) and "thresh" not in name:
                metric, said = _METRICS.get(name, (name, name.replace("_", " ").capitalize()))
                shown = printed(name, value, published.results["problem"])
                over_seeds = _over_seeds(published, split, name)
                # Whole-span scoring is nothing the Hub's metrics know.
                is_known = not name.startswith("strict_")
                rows.append(Scored(split, said, metric, value, shown, over_seeds, in_metadata=is_known))
    return rows


def _over_seeds(published: Published, split: str, name: str) -> str:
    """`61.20 % ± 0.41 % (5 seeds)`; nothing for a single run, or for settings that differ in more than the seed."""
    runs = published.siblings.values()
    values = [float(run["scores"][split][name]) for run in runs if name in run["scores"].get(split, {})]
    if len(values) < 2 or published.is_grid:
        return ""
    middle, spread = (printed(name, figure, published.results["problem"]) for figure in (mean(values), stdev(values)))
    return f"{middle} ± {spread} ({len(values)} seeds)"


def _trained(published: Published, known: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    results, data = published.results, known.get("data", {})
    train, optim, task = config["train"], config["optim"], config["task"]
    epochs = f"{train['epochs'] or 0:g} epoch{'' if train['epochs'] == 1 else 's'}"
    length = epochs if train["epochs"] else f"{train['max_steps']:,} steps"
    files = data.get("files") or [base_name(file) for file in (task["train"], *task["evaluate"]) if file]
    seeds = sorted({run["seed"] for run in published.siblings.values()})
    return [
        ("data", f"{results['task']}{' (' + ', '.join(files) + ')' if files else ''}"),
        ("examples", f"{results['num_train_examples']:,} to train on"),
        ("fingerprint", str(data.get("fingerprint") or results.get("data_hash") or NOT_RECORDED)),
        base_row(known, config["model"]["init_from"]),
        *_layers_row(results),
        ("length", f"{length} in batches of {train['global_batch_size']}, {task['max_seq_length']} tokens an example"),
        ("checkpoint", f"step {results['best_step']:,} of {results['step']:,}, the best by {results['headline']}"),
        ("optimizer", f"{optim['name']}, learning rate {optim['learning_rate']:g}, {optim['schedule']} schedule"),
        ("seed", f"{results['seed']}" + (f", one of {', '.join(map(str, seeds))}" if len(seeds) > 1 else "")),
        *cost_rows(results),
    ]


def _layers_row(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The shares of the layers that a BiLSTM reads, where it learned them."""
    shares: Mapping[str, float] = results.get("layer_shares") or {}
    said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    return [("the BiLSTM reads", said)] if said else []


def _limits(published: Published, config: Mapping[str, Any]) -> list[str]:
    results = published.results
    limits = [f"This run collapsed: {results['collapsed']}. Do not use it."] if results["collapsed"] else []
    limits += _limits_of_siblings(published)
    limits.append(
        f"The checkpoint was chosen by {results['headline']}, so the figures of that split are a little better than "
        "those of text that had no part in the choice."
    )
    limits += _limits_of_data(results, config["task"])
    if weak := _weak_labels(results["scores"]):
        limits.append(f"It finds less than half of these (recall): {', '.join(weak)}.")
    return [*limits, BIAS]


def _limits_of_siblings(published: Published) -> list[str]:
    runs = published.siblings
    if published.is_grid:
        return [f"Its settings are the best of {len(runs)}, chosen on the data it is scored on."]
    if len(runs) == 1:
        return ["It was trained with one seed: on small data another seed may give figures several points away."]
    collapsed = [name for name, results in runs.items() if results["collapsed"]]
    return [f"{len(collapsed)} of {len(runs)} seeds collapsed: {', '.join(collapsed)}."] if collapsed else []


def _limits_of_data(results: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    limits, number = [], results["num_train_examples"]
    if number < _FEW_EXAMPLES:
        limits.append(f"It has seen {number:,} examples only.")
    if results.get("share_cut"):
        limits.append(
            f"{100 * results['share_cut']:.1f} % of the examples were cut at {task['max_seq_length']} tokens; longer "
            "texts are cut too."
        )
    if results["problem"] == "span_qa":
        threshold = results["options"].get("null_threshold")
        limits.append(
            "It gives a span of the context for every question, answerable or not."
            if threshold is None
            else f"It says that there is no answer above a null score difference of {threshold:.3f} "
            "(bertkit.null_threshold in config.json)."
        )
        limits.append("The lines above take the best start and end alone: bertkit predict searches spans over windows.")
    return limits


def _weak_labels(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Labels, or types of entities, that are mostly missed on the first split, the worst first."""
    first = next(iter(scores.values()))
    table = first.get("per_label") or first.get("per_type") or {}
    recalls = {
        str(label): figures["recall"]
        for label, figures in table.items()
        if figures.get("support", figures.get("gold")) and figures["recall"] < 0.5
    }
    worst = sorted(recalls, key=lambda label: recalls[label])
    return worst[:_LABELS_NAMED] + ([f"and {len(worst) - _LABELS_NAMED} more"] if len(worst) > _LABELS_NAMED else [])
