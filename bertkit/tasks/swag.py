"""SWAG (Zellers et al. 2018): which of four endings comes next."""

from typing import Final

from bertkit.tasks.spec import Files, FinetuneDefaults, HubSource, Splits, TaskSpec

SWAG = TaskSpec(
    name="swag",
    problem="multiple_choice",
    texts=("sent1", "sent2", "ending0", "ending1", "ending2", "ending3"),
    source=HubSource("allenai/swag", "regular"),
    files=Files(
        "swag",
        names={
            "train": ("train.csv", "train_full.csv", "train.jsonl"),
            "validation": ("val.csv", "val_full.csv", "val.jsonl"),
            "test": ("test.csv", "test.jsonl"),
        },
        folder="swag",
        download="https://github.com/rowanz/swagaf/tree/master/data",
    ),
    splits=Splits(predict=("test",)),
    metrics=("accuracy",),
    defaults=FinetuneDefaults(learning_rate=2e-5, global_batch_size=16),
)

TASKS: Final = (SWAG,)
