"""What the card of a pre-trained model says."""

from collections.abc import Mapping
from typing import Any

from bertkit.config.schema import DataConfig
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
from bertkit.workflows.published import Published

# An accuracy this little above that of one and the same answer is chance, on a few hundred pairs.
_CHANCE = 0.03
_PAPER = "the 3.3 billion words of the original BERT"


def content_of_pretrained(
    published: Published, config: Mapping[str, Any], repo_id: str, *, with_code: bool = False
) -> CardContent:
    """The card of a pre-training run, but for what all cards have alike."""
    results, known = published.results, provenance_of(published.results)
    name = data_name(known, base_name(str(config.get("corpus"))))
    hub_id = known.get("data", {}).get("hub_id")
    pairs = config["pairs"]["next_sentence"]
    objectives = "masked language modelling" + (" and next sentence prediction" if pairs == "nsp" else "")
    base = known.get("base") or {}
    return CardContent(
        repo_id=repo_id,
        about=(
            f"A BERT of {config['model']['num_hidden_layers']} layers of {config['model']['hidden_size']}"
            f"{shape_said(known)}, {_beginning(known, config)} with {objectives} (Devlin et al. 2019) on {cell(name)}."
        ),
        pipeline_tag="fill-mask",
        task_name="Masked language modelling",
        tags=["bert", "pretraining", "masked-lm", *(["next-sentence-prediction"] if pairs == "nsp" else [])],
        data=Data(name, hub_id=_dataset(hub_id), config=_config(hub_id)),
        datasets=[dataset] if (dataset := _dataset(hub_id)) else [],
        base_model=base.get("hub_id"),
        language=_language(config),
        scored=_scored(results["heldout"]),
        usage=usage("pretraining", repo_id, with_code=with_code),
        trained=_trained(results, known, config, name),
        command="",
        config="",
        limits=_limits(results["heldout"], known, config),
    )


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


def _scored(heldout: Mapping[str, float]) -> list[Scored]:
    if not heldout:
        return []
    accuracy = heldout["mlm_accuracy"]
    frequencies = f"{heldout['unigram_entropy']:.3f} (word frequencies alone)"
    rows = [
        Scored(
            "held-out", "Masked LM loss", "loss", heldout["mlm_loss"], f"{heldout['mlm_loss']:.3f}", "", frequencies
        ),
        Scored("held-out", "Perplexity", "perplexity", heldout["mlm_perplexity"], f"{heldout['mlm_perplexity']:,.1f}"),
        Scored("held-out", "Masked LM accuracy", "accuracy", accuracy, f"{100 * accuracy:.1f} %"),
    ]
    if "nsp_accuracy" in heldout:
        nsp, same = heldout["nsp_accuracy"], f"{100 * heldout['nsp_majority']:.1f} % (always the same answer)"
        rows.append(Scored("held-out", "Next sentence accuracy", "accuracy", nsp, f"{100 * nsp:.1f} %", "", same))
    return rows


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


def _limits(heldout: Mapping[str, float], known: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    longest = max(phase["max_seq_length"] for phase in config["train"]["phases"])
    limits = []
    base = base_of(known, config["train"]["init_from"])
    if known.get("data"):
        limits.append(_limit_of_data(known, base))
    if base is None:
        limits.append(f"It never saw more than {longest} tokens at once, and its tokenizer cuts text there.")
    return [*limits, *_limits_of_scores(heldout), BIAS]


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


def _limits_of_scores(heldout: Mapping[str, float]) -> list[str]:
    if not heldout:
        return ["Nothing was held out, so it is not known how well it does on text it has not seen."]
    limits = [
        f"The scores are of {heldout['num_instances']:,} instances held out from the same corpus; a perplexity "
        "compares only with that of a model of the same tokenizer on the same text."
    ]
    if heldout["mlm_loss"] >= heldout["unigram_entropy"]:
        limits.append("Its masked LM is no better than word frequencies alone: it was trained for too short a time.")
    if "nsp_accuracy" in heldout and heldout["nsp_accuracy"] < heldout["nsp_majority"] + _CHANCE:
        limits.append(
            "Its next sentence prediction is at chance, so its pooled output says little: fine-tune before you use it."
        )
    return limits
