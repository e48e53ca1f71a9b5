"""SQuAD 1.1 (Rajpurkar et al. 2016) and 2.0 (2018), with the settings of the BERT paper."""

from typing import Final

from bertkit.tasks.spec import Files, FinetuneDefaults, HubSource, TaskSpec

DOWNLOAD: Final = "https://rajpurkar.github.io/SQuAD-explorer/"
MAX_SEQ_LENGTH: Final = 384
# From the start of one window to the next, as in google-research/bert.
DOC_STRIDE: Final = 128

SQUAD = TaskSpec(
    name="squad",
    problem="span_qa",
    texts=("question", "context"),
    label="answers",
    source=HubSource("rajpurkar/squad"),
    files=Files(
        "squad",
        names={"train": ("train-v1.1.json",), "validation": ("dev-v1.1.json",)},
        folder="squad",
        download=DOWNLOAD,
    ),
    metrics=("squad",),
    defaults=FinetuneDefaults(learning_rate=3e-5, max_seq_length=MAX_SEQ_LENGTH, doc_stride=DOC_STRIDE),
)

SQUAD2 = TaskSpec(
    name="squad2",
    problem="span_qa",
    texts=("question", "context"),
    label="answers",
    source=HubSource("rajpurkar/squad_v2"),
    files=Files(
        "squad",
        names={"train": ("train-v2.0.json",), "validation": ("dev-v2.0.json",)},
        folder="squad2",
        download=DOWNLOAD,
    ),
    metrics=("squad_v2",),
    defaults=FinetuneDefaults(
        learning_rate=5e-5, epochs=2.0, global_batch_size=48, max_seq_length=MAX_SEQ_LENGTH, doc_stride=DOC_STRIDE
    ),
)

TASKS: Final = (SQUAD, SQUAD2)
