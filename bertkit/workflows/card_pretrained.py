"""What the card of a pre-trained model says."""

from collections.abc import Mapping
from typing import Any, Final

from bertkit.config.data import DataConfig
from bertkit.hub.card import CardContent, Data, Scored, cell
from bertkit.hub.places import base_name
from bertkit.hub.usage import usage
from bertkit.workflows.card_rows import (
    BIAS,
    NOT_RECORDED,
    base_of,
    base_row,
    cost_rows,
    data_name,
    provenance_of,
    shape_said,
)
from bertkit.workflows.objectives import Objective, Words, objective_of
from bertkit.workflows.published import Published

# An accuracy this little above that of one and the same answer is chance, on a few hundred pairs.
_CHANCE = 0.03
_PAPER = "the 3.3 billion words of the original BERT"
# What a model of each kind is, of so many layers of a width.
_MODELS: Final[dict[Words, str]] = {
    "mlm": "A BERT of {layers} layers of {width}",
    "ltr": "A left-to-right BERT (causal attention, as OpenAI GPT) of {layers} layers of {width}",
    "bilm": "An ELMo-style biLM of {layers} forward and {layers} backward LSTM layers, {width} wide together",
}
_SOURCES: Final[dict[Words, str]] = {
    "mlm": "Devlin et al. 2019",
    "ltr": "the LTR model of Devlin et al. 2019, table 5",
    "bilm": "Peters et al. 2018",
}
_TASKS: Final[dict[Words, str]] = {
    "mlm": "Masked language modelling",
    "ltr": "Causal language modelling",
    "bilm": "Bidirectional language modelling",
}
_TAGS: Final[dict[Words, list[str]]] = {
    "mlm": ["bert", "pretraining", "masked-lm"],
    "ltr": ["bert", "pretraining", "causal-lm"],
    "bilm": ["elmo", "pretraining", "bilm"],
}


def content_of_pretrained(
    published: Published, config: Mapping[str, Any], repo_id: str, *, with_code: bool = False
) -> CardContent:
    """The card of a pre-training run, but for what all cards have alike."""
    results, known = published.results, provenance_of(published.results)
    name = data_name(known, base_name(str(config.get("corpus"))))
    hub_id = known.get("data", {}).get("hub_id")
    objective = objective_of(config)
    model = _MODELS[objective.words].format(
        layers=config["model"]["num_hidden_layers"], width=config["model"]["hidden_size"]
    )
    base = known.get("base") or {}
    kind = _usage_of(objective, with_code=with_code)
    return CardContent(
        repo_id=repo_id,
        about=(
            f"{model}{shape_said(known)}, {_beginning(known, config)} with {objective.learned} "
            f"({_SOURCES[objective.words]}) on {cell(name)}."
        ),
        pipeline_tag={"pretraining": "fill-mask", "generation": "text-generation"}.get(kind, "feature-extraction"),
        task_name=_TASKS[objective.words],
        tags=[*_TAGS[objective.words], *filter(None, [objective.pairs_learned.replace(" ", "-")])],
        data=Data(name, hub_id=_dataset(hub_id), config=_config(hub_id)),
        datasets=[dataset] if (dataset := _dataset(hub_id)) else [],
        base_model=base.get("hub_id"),
        language=_language(config),
        scored=_scored(results["heldout"], objective),
        usage=usage(kind, repo_id, with_code=with_code),
        trained=_trained(results, known, config, name),
        command="",
        config="",
        limits=_limits(results["heldout"], known, config, objective),
    )


def _usage_of(objective: Objective, *, with_code: bool) -> str:
    """The kind of example that the model can run: stock classes generate, ours say what is likely next."""
    if objective.words == "ltr":
        return "next_words_and_pairs" if objective.pairs != "off" else "next_words" if with_code else "generation"
    return "features" if objective.words == "bilm" else "pretraining"


def _beginning(known: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    base = base_of(known, config["train"]["init_from"])
    return f"continued from {cell(base)}" if base else "pre-trained"


def _language(config: Mapping[str, Any]) -> str | None:
    """What sentences were cut as, where somebody chose that: the setting that nobody chose says nothing of the text."""
    language: str = config["data"]["language"]
    return None if language == DataConfig.model_fields["language"].default else language


def _dataset(hub_id: str | None) -> str | None:
    return hub_id.partition(":")[0] if hub_id else None


def _config(hub_id: str | None) -> str | None:
    return hub_id.partition(":")[2] or None if hub_id else None


def _scored(heldout: Mapping[str, float], objective: Objective) -> list[Scored]:
    if not heldout:
        return []
    title, (loss, accuracy, perplexity) = objective.title, _figures(heldout, objective)
    frequencies = f"{heldout['unigram_entropy']:.3f} (word frequencies alone)"
    rows = [
        Scored("held-out", f"{title} loss", "loss", loss, f"{loss:.3f}", "", frequencies),
        Scored("held-out", "Perplexity", "perplexity", perplexity, f"{perplexity:,.1f}"),
        Scored("held-out", f"{title} accuracy", "accuracy", accuracy, f"{100 * accuracy:.1f} %"),
    ]
    if "nsp_accuracy" in heldout:
        nsp, same = heldout["nsp_accuracy"], f"{100 * heldout['nsp_majority']:.1f} % (always the same answer)"
        name = "Sentence order accuracy" if objective.pairs == "sop" else "Next sentence accuracy"
        rows.append(Scored("held-out", name, "accuracy", nsp, f"{100 * nsp:.1f} %", "", same))
    return rows


def _figures(heldout: Mapping[str, float], objective: Objective) -> tuple[float, float, float]:
    """Loss, accuracy and perplexity of what it learned of words."""
    loss, accuracy, perplexity = (heldout[f"{objective.term}_{name}"] for name in ("loss", "accuracy", "perplexity"))
    return loss, accuracy, perplexity


def _trained(
    results: Mapping[str, Any], known: Mapping[str, Any], config: Mapping[str, Any], name: str
) -> list[tuple[str, str]]:
    data, train, optim = known.get("data", {}), config["train"], config["optim"]
    lengths = ", then ".join(f"{phase['max_seq_length']} for {100 * phase['share']:g} %" for phase in train["phases"])
    size = NOT_RECORDED
    if data:
        size = f"{data['documents']:,} documents, {data['sentences']:,} sentences, {data['tokens']:,} tokens"
    return [
        ("corpus", name),
        ("size", size),
        ("fingerprint", str(data.get("fingerprint", NOT_RECORDED))),
        base_row(known, train["init_from"]),
        ("steps", f"{results['step']:,} of {train['global_batch_size']} instances"),
        ("instances' length in tokens", lengths),
        ("optimizer", f"{optim['name']}, learning rate {optim['learning_rate']:g}, {optim['schedule']} schedule"),
        ("seed", str(known.get("seed", train["seed"]))),
        *cost_rows(results),
    ]


def _limits(
    heldout: Mapping[str, float], known: Mapping[str, Any], config: Mapping[str, Any], objective: Objective
) -> list[str]:
    longest = max(phase["max_seq_length"] for phase in config["train"]["phases"])
    limits = []
    base = base_of(known, config["train"]["init_from"])
    if known.get("data"):
        limits.append(_limit_of_data(known, base))
    if base is None:
        limits.append(f"It never saw more than {longest} tokens at once, and its tokenizer cuts text there.")
    return [*limits, *_limits_of_scores(heldout, objective), BIAS]


def _limit_of_data(known: Mapping[str, Any], base: str | None) -> str:
    data, read = known["data"], known.get("tokens")
    amount = f"{data['documents']:,} documents ({data['tokens']:,} tokens)"
    held = f"It has read {amount}"
    if read is None or read < data["tokens"]:
        held = f"Its corpus holds {amount}" + (
            f", of which it read {read:,} tokens at most" if read is not None else ""
        )
    if base is not None:
        return f"{held}; whatever else it knows or lacks comes from {base}, whose limits are its own too."
    return f"{held}, against {_PAPER}: expect it to know the language and the subjects of that text and little else."


def _limits_of_scores(heldout: Mapping[str, float], objective: Objective) -> list[str]:
    if not heldout:
        return ["Nothing was held out, so it is not known how well it does on text it has not seen."]
    limits = [
        f"The scores are of {heldout['num_instances']:,} instances held out from the same corpus; a perplexity "
        "compares only with that of a model of the same tokenizer and objective on the same text."
    ]
    if _figures(heldout, objective)[0] >= heldout["unigram_entropy"]:
        said = "masked LM" if objective.term == "mlm" else "LM"
        limits.append(f"Its {said} is no better than word frequencies alone: it was trained for too short a time.")
    if "nsp_accuracy" in heldout and heldout["nsp_accuracy"] < heldout["nsp_majority"] + _CHANCE:
        limits.append(
            f"Its {objective.pairs_learned} is at chance, so its pooled output says little: fine-tune before you use "
            "it."
        )
    return limits
