"""HANS (McCoy et al. 2019): does an MNLI model read, or does it count common words? Scored, never trained on."""

from typing import Final

from bertkit.tasks.spec import GlueFiles, HubSource, Splits, TaskSpec

HANS = TaskSpec(
    name="hans",
    problem="classification",
    texts=("premise", "hypothesis"),
    labels=("entailment", "non-entailment"),
    columns=("heuristic",),
    source=HubSource("jhu-cogsci/hans", revision="refs/convert/parquet"),
    files=GlueFiles(
        "HANS",
        texts=("sentence1", "sentence2"),
        label="gold_label",
        names={"validation": ("heuristics_evaluation_set.txt",)},
        download="https://github.com/tommccoy1/hans",
    ),
    splits=Splits(train=None),
    metrics=("hans",),
    scored_with="glue/mnli",
)

TASKS: Final = (HANS,)
