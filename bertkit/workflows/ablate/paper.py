"""What the paper published, to lay beside one's own (Devlin et al. 2019, arXiv:1810.04805v2).

All on models of BERT-Base's shape unless a row says another, trained on 3.3 billion words; development sets. Figure 5
is a drawing without numbers, so no number of it is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bertkit.config.ablate import TableName


@dataclass(frozen=True)
class Published:
    """A table of the paper: columns by key with head and figure, rows by the key of the comparison's with its words.

    perplexity: of the held-out masked LM, by row. findings: what the paper says in words.
    """

    source: str
    columns: Mapping[str, tuple[str, str]]
    rows: Mapping[str, tuple[str, tuple[float | None, ...]]]
    perplexity: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()


_OBJECTIVES: Final = Published(
    source="Table 5: ablation over the pre-training tasks, BERT-Base",
    columns={
        "mnli": ("MNLI-m", "accuracy"),
        "qnli": ("QNLI", "accuracy"),
        "mrpc": ("MRPC", "accuracy"),
        "sst2": ("SST-2", "accuracy"),
        "squad": ("SQuAD", "F1"),
    },
    rows={
        "mlm-nsp": ("BERT-Base", (84.4, 88.4, 86.7, 92.7, 88.5)),
        "mlm": ("No NSP", (83.9, 84.9, 86.5, 92.6, 87.9)),
        "ltr": ("LTR & No NSP", (82.1, 84.3, 77.5, 92.1, 77.8)),
        "ltr-bilstm": ("+ BiLSTM", (82.1, 84.1, 75.7, 91.6, 84.9)),
    },
    findings=(
        "The left-to-right model is worse than the masked LM on all tasks, by much on MRPC and SQuAD: its states know "
        "nothing of what is right of a token.",
        "Without next sentence prediction QNLI, MNLI and SQuAD get clearly worse.",
    ),
)
_SIZES: Final = Published(
    source="Table 6: ablation over the size of the model",
    columns={"mnli": ("MNLI-m", "accuracy"), "mrpc": ("MRPC", "accuracy"), "sst2": ("SST-2", "accuracy")},
    rows={
        "layers-quarter": ("3 / 768 / 12", (77.9, 79.8, 88.4)),
        "layers-half-heads-quarter": ("6 / 768 / 3", (80.6, 82.2, 90.7)),
        "layers-half": ("6 / 768 / 12", (81.9, 84.8, 91.3)),
        "base": ("12 / 768 / 12", (84.4, 86.7, 92.9)),
        "wider": ("12 / 1024 / 16", (85.7, 86.9, 93.3)),
        "wider-twice-layers": ("24 / 1024 / 16", (86.6, 87.8, 93.7)),
    },
    perplexity={
        "layers-quarter": 5.84,
        "layers-half-heads-quarter": 5.24,
        "layers-half": 4.68,
        "base": 3.99,
        "wider": 3.54,
        "wider-twice-layers": 3.23,
    },
    findings=("Larger models are better on all tasks, even on MRPC with its 3,600 examples.",),
)
_MASKING: Final = Published(
    source="Table 8: ablation over masking strategies, BERT-Base",
    columns={
        "mnli": ("MNLI", "accuracy"),
        "conll2003": ("NER", "F1"),
        "conll2003-feature-based": ("NER, feature-based", "F1"),
    },
    rows={
        "mask80-same10-rnd10": ("80 % / 10 % / 10 %", (84.2, 95.4, 94.9)),
        "mask100-same0-rnd0": ("100 % / 0 % / 0 %", (84.3, 94.9, 94.0)),
        "mask80-same0-rnd20": ("80 % / 0 % / 20 %", (84.1, 95.2, 94.6)),
        "mask80-same20-rnd0": ("80 % / 20 % / 0 %", (84.4, 95.2, 94.7)),
        "mask0-same20-rnd80": ("0 % / 20 % / 80 %", (83.7, 94.8, 94.6)),
        "mask0-same0-rnd100": ("0 % / 0 % / 100 %", (83.6, 94.9, 94.6)),
    },
    findings=(
        "Fine-tuning hardly minds the procedure; features do mind if every chosen token becomes [MASK].",
        "Only random tokens in their place is much worse than the paper's 80 / 10 / 10.",
    ),
)
_STEPS: Final = Published(
    source="Figure 5: ablation over the number of training steps, BERT-Base on MNLI (a drawing without numbers)",
    columns={},
    rows={},
    findings=(
        "A million steps are almost 1.0 % better on MNLI than 500,000.",
        "The masked LM converges a little slower than the left-to-right model, and is better than it almost at once.",
    ),
)
_FEATURES: Final = Published(
    source="Table 7: CoNLL-2003 named entities, development set, BERT-Base",
    columns={"conll2003": ("NER", "F1")},
    rows={
        "fine-tuned": ("Fine-tuned", (96.4,)),
        "embeddings": ("Embeddings", (91.0,)),
        "second-to-last": ("Second-to-last hidden", (95.6,)),
        "last": ("Last hidden", (94.9,)),
        "sum-last-4": ("Weighted sum last four hidden", (95.9,)),
        "concat-last-4": ("Concat last four hidden", (96.1,)),
        "weighted-all": ("Weighted sum all 12 layers", (95.5,)),
    },
    findings=("The best features are only 0.3 F1 behind fine-tuning the whole model.",),
)

PUBLISHED: Final[Mapping[TableName, Published]] = {
    "objectives": _OBJECTIVES,
    "sizes": _SIZES,
    "masking": _MASKING,
    "steps": _STEPS,
    "features": _FEATURES,
}
