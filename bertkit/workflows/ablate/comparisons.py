"""What each table compares: the models it pre-trains, its rows, and what its columns fine-tune on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bertkit.config.ablate import AblateConfig, TableName
from bertkit.config.schema import ModelConfig, TrainConfig
from bertkit.errors import ConfigError
from bertkit.workflows.finetune_setup import NEW_BILSTM_RATE

HEAD_SIZE: Final = 64
FIFTHS: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
# Every checkpoint of the steps table is kept: each fifth takes the one nearest to it.
KEEP_ALL: Final = 1000
# Devlin et al. 2019, section 5.3: the best features, and those of appendix C.2.
BEST_FEATURES: Final = "concat-last-4"
FOUR: Final = 4
_OF_LAST_FOUR: Final = ("sum-last-4", "concat-last-4")

Settings = Mapping[str, Any]

# ELMo's has two layers a direction (Peters et al. 2018, section 3.4).
_SHAPE_OF: Final[Mapping[str, Settings]] = {"bilm": {"model.num_hidden_layers": 2}}


@dataclass(frozen=True)
class Pretraining:
    """A kind of model that is pre-trained: the base with these values, by dotted key, in the place of its own."""

    key: str
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table: a pre-trained model, how it is fine-tuned, and what the paper calls it.

    cells: what stands before the figures, one for each of the comparison's `labels`. share: of the pre-training after
    which the model is taken.
    """

    key: str
    cells: tuple[str, ...]
    pretraining: str
    settings: Settings = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Approach:
    """How a column uses the model, beyond its row: fine-tuned, or as features; only tagging tasks have the latter."""

    key: str
    title: str
    settings: Settings = field(default_factory=dict)
    tagging_only: bool = False


NO_COMMON_PERPLEXITY: Final = (
    "Perplexities of different objectives do not compare: a hidden word and the next word are different questions."
)
MASKED_ALIKE: Final = (
    "Held-out perplexity is of masks as BERT's in every row, 80 % [MASK], 10 % the same, 10 % random: rows that never "
    "saw [MASK] are asked what they were not trained for."
)
FINE_TUNED: Final = Approach("fine-tuned", "")


@dataclass(frozen=True)
class Comparison:
    """A table of the paper as a plan: labels head the cells of its rows."""

    title: str
    source: str
    labels: tuple[str, ...]
    pretrainings: tuple[Pretraining, ...]
    rows: tuple[Row, ...]
    approaches: tuple[Approach, ...] = (FINE_TUNED,)
    default_tasks: tuple[str, ...] = ("cola", "mrpc", "rte", "sst2")
    shows_perplexity: bool = False
    notes: tuple[str, ...] = ()


def comparison_of(config: AblateConfig) -> Comparison:
    """The comparison that the config names, relative to its own models."""
    return _COMPARISONS[config.table](config)


def objective(name: str) -> Settings:
    """The settings of a pre-training objective, its pairs with it."""
    return {"objective": name, "pairs.next_sentence": name.partition("+")[2] or "off"}


def feature_based(config: AblateConfig, layers: str) -> Settings:
    """The settings of a frozen encoder under a BiLSTM (section 5.3)."""
    return {
        "model.freeze": "encoder",
        "model.bilstm": _bilstm(config, layers),
        "optim.learning_rate": config.feature_learning_rate,
    }


def reads_last_four(settings: Settings) -> bool:
    """Whether a row or a column with these settings takes the last four layers."""
    return settings.get("model.bilstm", {}).get("layers") in _OF_LAST_FOUR


def _bilstm(config: AblateConfig, layers: str) -> Settings:
    # The paper's has 768 units a direction, as wide as the model it stands on.
    return {"layers": layers, "size": config.pretrain.model.hidden_size}


def _objectives(config: AblateConfig) -> Comparison:
    names = ("mlm+nsp", "mlm", "ltr", "ltr+nsp", "bilm")
    return Comparison(
        title="Pre-training objectives",
        source="Devlin et al. 2019, Table 5",
        labels=("objective",),
        pretrainings=tuple(Pretraining(_key(name), {**objective(name), **_SHAPE_OF.get(name, {})}) for name in names),
        rows=(
            Row("mlm-nsp", ("BERT (MLM & NSP)",), "mlm-nsp"),
            Row("mlm", ("No NSP",), "mlm"),
            Row("ltr", ("LTR & No NSP",), "ltr"),
            Row("ltr-bilstm", ("+ BiLSTM",), "ltr", {"model.bilstm": _bilstm(config, "last")}),
            Row("ltr-nsp", ("LTR & NSP",), "ltr-nsp"),
            Row("bilm", ("ELMo-style biLM",), "bilm"),
        ),
        notes=(
            "LTR & NSP and the biLM are no rows of the paper's table.",
            "The biLM has two LSTM layers a direction, as ELMo's, and is fine-tuned whole as the others are; ELMo's "
            "own use is as features.",
            f"The BiLSTM of '+ BiLSTM' begins anew and learns at {NEW_BILSTM_RATE:g}, the model below it at the rate "
            "of the others.",
            NO_COMMON_PERPLEXITY,
        ),
    )


def _sizes(config: AblateConfig) -> Comparison:
    shapes = dict(_shapes(config.pretrain.model))
    by_the_clock = config.pretrain.train.max_minutes is not None
    return Comparison(
        title="Model sizes",
        source="Devlin et al. 2019, Table 6",
        labels=("#L", "#H", "#A"),
        pretrainings=tuple(
            Pretraining(key, {f"model.{name}": value for name, value in shape.items()}) for key, shape in shapes.items()
        ),
        rows=tuple(Row(key, tuple(str(shape[name]) for name in _SHAPE), key) for key, shape in shapes.items()),
        shows_perplexity=True,
        notes=("Shapes stand to one another as the paper's do; BERT-Base's place is the recipe's.",)
        + ("By the clock larger models see fewer tokens: --budget Nsteps is the paper's comparison.",) * by_the_clock,
    )


_SHAPE: Final = ("num_hidden_layers", "hidden_size", "num_attention_heads")
# Table 6 over its fourth row: layers, width, heads of one width.
_RATIOS: Final = {
    "layers-quarter": (1 / 4, 1.0, 1.0),
    "layers-half-heads-quarter": (1 / 2, 1.0, 1 / 4),
    "layers-half": (1 / 2, 1.0, 1.0),
    "base": (1.0, 1.0, 1.0),
    "wider": (1.0, 4 / 3, 1.0),
    "wider-twice-layers": (2.0, 4 / 3, 1.0),
}


def _shapes(base: ModelConfig) -> Sequence[tuple[str, dict[str, int]]]:
    """Every shape once, by the key of the paper's row: a small base may have fewer of them."""
    found: dict[str, dict[str, int]] = {}
    for key, (layers, width, heads) in _RATIOS.items():
        shape = _shape(base, layers=layers, width=width, heads=heads)
        if key == "base" or shape not in found.values():
            found[key] = shape
    if len([shape for shape in found.values() if shape == found["base"]]) > 1:
        raise ConfigError(
            f"model.num_hidden_layers {base.num_hidden_layers} is too few to be halved and quartered: take a recipe "
            "with 4 or more for the table 'sizes'"
        )
    return list(found.items())


def _shape(base: ModelConfig, *, layers: float, width: float, heads: float) -> dict[str, int]:
    hidden, base_heads = base.hidden_size, base.num_attention_heads
    if width > 1:
        # The next multiple of 64, the width of BERT's heads; at least one more of them.
        hidden = max(round(hidden * width / HEAD_SIZE), hidden // HEAD_SIZE + 1) * HEAD_SIZE
        base_heads = hidden // HEAD_SIZE
    num_heads = max(1, round(base_heads * heads))
    return {
        "num_hidden_layers": max(1, round(base.num_hidden_layers * layers)),
        "hidden_size": hidden,
        "num_attention_heads": num_heads if hidden % num_heads == 0 else 1,
        "intermediate_size": round(base.intermediate_size * hidden / base.hidden_size),
    }


# Appendix C.2: how often a chosen token becomes [MASK], stays the same, becomes a random one.
_SHARES: Final = ((80, 10, 10), (100, 0, 0), (80, 0, 20), (80, 20, 0), (0, 20, 80), (0, 0, 100))


def _masking(config: AblateConfig) -> Comparison:
    shares = {f"mask{mask}-same{same}-rnd{rnd}": (mask, same, rnd) for mask, same, rnd in _SHARES}
    features = feature_based(config, BEST_FEATURES)
    return Comparison(
        title="Masking procedures",
        source="Devlin et al. 2019, Table 8",
        labels=("MASK", "SAME", "RND"),
        pretrainings=tuple(
            Pretraining(key, {"masking.mask_share": mask / 100, "masking.random_share": rnd / 100})
            for key, (mask, _, rnd) in shares.items()
        ),
        rows=tuple(Row(key, tuple(f"{share} %" for share in each), key) for key, each in shares.items()),
        approaches=(FINE_TUNED, Approach("feature-based", "feature-based", features, tagging_only=True)),
        default_tasks=("mnli", "conll2003"),
        notes=(MASKED_ALIKE,),
    )


def _steps(config: AblateConfig) -> Comparison:
    kinds = {"mlm-nsp": ("mlm+nsp", "BERT (masked LM)"), "ltr": ("ltr", "left-to-right")}
    keep = {"every.keep_checkpoints": KEEP_ALL, **_checkpoint_every_fifth(config.pretrain.train)}
    return Comparison(
        title="Number of training steps",
        source="Devlin et al. 2019, Figure 5",
        labels=("objective", "pre-training"),
        pretrainings=tuple(Pretraining(key, {**objective(name), **keep}) for key, (name, _) in kinds.items()),
        rows=tuple(
            Row(f"{key}-{share * 100:.0f}", (name, f"{share:.0%}"), key, share=share)
            for key, (_, name) in kinds.items()
            for share in FIFTHS
        ),
        default_tasks=("mnli",),
        notes=(
            "Every point but the last is a checkpoint on the way to the last: its learning rate has not decayed to 0 "
            "yet, as in the paper.",
            NO_COMMON_PERPLEXITY,
        ),
    )


def _checkpoint_every_fifth(train: TrainConfig) -> Settings:
    if train.max_steps is not None:
        return {"every.save_steps": max(1, round(train.max_steps * FIFTHS[0])), "every.save_minutes": None}
    return {"every.save_steps": None, "every.save_minutes": (train.max_minutes or 0) * FIFTHS[0]}


# Table 7's rows under 'Feature-based approach', and the whole model fine-tuned.
_FEATURES: Final = {
    "embeddings": "Embeddings",
    "second-to-last": "Second-to-last hidden",
    "last": "Last hidden",
    "sum-last-4": "Sum of last four hidden",
    "concat-last-4": "Concat last four hidden",
    "weighted-all": "Weighted sum of all layers",
}


def _features(config: AblateConfig) -> Comparison:
    model = "base"
    return Comparison(
        title="Fine-tuning and feature-based use",
        source="Devlin et al. 2019, Table 7",
        labels=("approach",),
        pretrainings=(Pretraining(model),),
        rows=(
            Row("fine-tuned", ("Fine-tuned",), model),
            *(Row(key, (f"Features: {name}",), model, feature_based(config, key)) for key, name in _FEATURES.items()),
        ),
        default_tasks=("conll2003",),
        notes=("The paper weighs the last four layers where this sums them as they are.",),
    )


def _key(name: str) -> str:
    return name.replace("+", "-")


_COMPARISONS: Final[dict[TableName, Callable[[AblateConfig], Comparison]]] = {
    "objectives": _objectives,
    "sizes": _sizes,
    "masking": _masking,
    "steps": _steps,
    "features": _features,
}
