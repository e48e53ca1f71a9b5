"""CoNLL-2003 named entities (Tjong Kim Sang & De Meulder 2003), in IOB2 whatever its files are in."""

from typing import Final

from bertkit.tasks.spec import Files, FinetuneDefaults, HubSource, Splits, TaskSpec

CONLL2003 = TaskSpec(
    name="conll2003",
    problem="tagging",
    texts=("tokens",),
    label="ner_tags",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"),
    source=HubSource("eriktks/conll2003", revision="refs/convert/parquet"),
    files=Files(
        "conll",
        names={
            "train": ("eng.train", "train.txt"),
            "validation": ("eng.testa", "valid.txt", "dev.txt"),
            "test": ("eng.testb", "test.txt"),
        },
        folder="conll2003",
        download="https://www.clips.uantwerpen.be/conll2003/ner/",
    ),
    # Both are labelled and both are in the paper's table; the first chooses the checkpoint.
    splits=Splits(evaluate=("validation", "test")),
    metrics=("tagging",),
    defaults=FinetuneDefaults(learning_rate=5e-5),
)

TASKS: Final = (CONLL2003,)
