"""The typed configuration of a fine-tuning run; its sections share their leaves with pre-training's.

A field that is null by default and says "the task's" takes the value of the task (DESIGN 8): schema defaults < task <
recipe < `--set` < options.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bertkit.config.leaves import EXECUTION, MICRO_BATCH_TOKENS, PositiveInt, Section, Share, TokenBudget
from bertkit.config.schema import EveryConfig, OptimConfig

DEFAULT_BERT = "google-bert/bert-base-uncased"


class TaskConfig(Section):
    """Which examples, and how they are cut and scored."""

    name: str | None = Field(None, description="A named task such as glue/mnli, squad or conll2003; null: own files.")
    problem: Literal["auto", "classification", "regression", "multi_label", "tagging", "span_qa", "multiple_choice"] = (
        Field("auto", description="Kind of problem of own files; 'auto' looks at the labels and says what it decided.")
    )
    data_dir: str | None = Field(
        None, description="Folder of a named task's files in their original layout; null: from the Hub."
    )
    train: str | None = Field(None, description="Own labelled file to train on.")
    evaluate: tuple[str, ...] = Field((), description="Own labelled files to score; none: a part of train is held out.")
    texts: tuple[str, ...] = Field((), description="Columns of the text, or of the two texts of a pair.")
    label: str | None = Field(None, description="Column of the label; several, comma-separated, for 0/1 columns.")
    choices: tuple[str, ...] = Field((), description="Columns of the choices of multiple choice.")
    eval_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of train that is held out where there is no file to score, stratified by label."
    )
    max_train_examples: PositiveInt | None = Field(None, description="Train on so many at the most, whatever the seed.")
    max_eval_examples: PositiveInt | None = Field(None, description="Score so many of each split at the most.")
    max_seq_length: Annotated[int, Field(ge=8)] | None = Field(
        None, description="Longest input in tokens; null: the task's."
    )
    doc_stride: PositiveInt | None = Field(
        None,
        description="Tokens from one window's start to the next, in long inputs; null: the task's, or half.",
    )
    long_inputs: Literal["truncate", "windows"] = Field(
        "truncate",
        description="Texts too long to classify: cut, or in windows; tagging and QA always use windows.",
    )
    max_query_length: PositiveInt = Field(64, description="Longest question, in tokens.")
    max_answer_length: PositiveInt = Field(30, description="Longest answer, in tokens.")
    n_best_size: PositiveInt = Field(20, description="Best answers that are kept of each question.")
    metric: str | None = Field(
        None, description="Figure that chooses the best checkpoint, such as macro_f1; null: the task's first."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="'balanced': every class weighs the same in the loss, however rare."
    )
    thresholds: Literal["fixed", "tuned"] = Field(
        "fixed",
        description="multi_label: a label counts from probability 0.5, or from its best F1 on the scored split.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.name is not None and (self.train or self.evaluate):
            raise ValueError(
                f"task.name {self.name} and task.train name two sources: leave out one (the files of a named task are "
                "given as task.data_dir)"
            )
        return self


class LoraConfig(Section):
    """Low-rank adapters in place of full fine-tuning (Hu et al. 2021); merged into the weights at the end."""

    rank: PositiveInt = Field(8, description="Rank of every adapter.")
    alpha: PositiveInt = Field(16, description="Scale of the adapters, over the rank.")
    dropout: Share = Field(0.05, description="Dropout before the adapters.")


class BiLSTMConfig(Section):
    """A bidirectional LSTM between the encoder and the classifier (Devlin et al. 2019, section 5.3 and table 5)."""

    # The choices of `bertkit.model.layer_mix`, which loads torch.
    layers: Literal["embeddings", "last", "second-to-last", "sum-last-4", "concat-last-4", "weighted-all"] = Field(
        "weighted-all",
        description="Layers of the encoder it reads; of weighted-all it learns each layer's share (ELMo's scalar mix).",
    )
    num_layers: PositiveInt = Field(2, description="Bidirectional layers.")
    size: PositiveInt = Field(768, description="Units of a direction; the classifier reads twice as many numbers.")
    dropout: Share = Field(0.0, description="Dropout between its layers.")
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Peak learning rate of its weights; null: 1e-3, or above a frozen encoder optim.learning_rate.",
    )


class FinetuneModelConfig(Section):
    """What becomes of the pre-trained model before it is trained."""

    init_from: str = Field(DEFAULT_BERT, description="BERT folder, pre-training run or Hub id to begin from.")
    hidden_dropout_prob: Share | None = Field(
        None, description="Dropout; null: the model's own. An encoder frozen under model.bilstm has none."
    )
    attention_probs_dropout_prob: Share | None = Field(
        None, description="Attention dropout; null: the model's own. An encoder frozen under model.bilstm has none."
    )
    classifier_dropout: Share | None = Field(None, description="Dropout before the head; null: hidden_dropout_prob.")
    freeze: Literal["none", "embeddings", "encoder"] = Field(
        "none", description="Weights that stay as they are: none, the embeddings, or everything but the head."
    )
    reinit_layers: Annotated[int, Field(ge=0)] = Field(
        0, description="Topmost layers, and the pooler, to begin anew (Zhang et al. 2021)."
    )
    lora: LoraConfig | None = Field(None, description="Train adapters only (pip install peft).")
    bilstm: BiLSTMConfig | None = Field(
        None,
        description="A BiLSTM before the classifier; with model.freeze=encoder it makes the feature-based approach.",
    )

    @property
    def is_feature_based(self) -> bool:
        """Whether the encoder only gives features (section 5.3) and is not fine-tuned."""
        return self.freeze == "encoder" and self.bilstm is not None


class FinetuneOptimConfig(OptimConfig):
    """The optimizer and its schedule, with what the task says where it is left null."""

    learning_rate: Annotated[float, Field(gt=0)] | None = Field(  # type: ignore[assignment]
        None, description="Peak learning rate; null: the task's, or 1e-3 for a BiLSTM on a frozen encoder."
    )
    warmup_steps: Annotated[float, Field(ge=0)] = Field(
        0.1, description="Linear warm-up: steps when 1 or more, a share of the run when below 1."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Learning rate of each layer over that of the layer above it."
    )


class FinetuneTrainConfig(Section):
    """How long, how wide and on what."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Fixes the new head, the order and dropout.")
    epochs: Annotated[float, Field(gt=0)] | None = Field(None, description="Passes over the data; null: the task's.")
    max_steps: PositiveInt | None = Field(None, description="Optimizer steps to run, instead of epochs.")
    global_batch_size: PositiveInt | None = Field(
        None, description="Examples an optimizer step, over all devices; null: the task's."
    )
    micro_batch_tokens: TokenBudget = Field("auto", description=MICRO_BATCH_TOKENS, json_schema_extra=EXECUTION)
    micro_batch_size: PositiveInt | None = Field(
        None,
        description="Examples a forward pass on one device; null: as many as the tokens allow.",
        json_schema_extra=EXECUTION,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="'auto': bf16 where the device computes it fast, else fp32."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations in backward: less memory, a third more time.",
        json_schema_extra=EXECUTION,
    )
    early_stopping_patience: PositiveInt | None = Field(
        None, description="Stop after so many evaluations without a better score; null: never."
    )
    retry_collapsed: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Times a collapsed run (one class for everything, a flat loss) begins again, other seed.",
        # A finished run that collapsed may be asked for another attempt; any other stays as it is.
        json_schema_extra=EXECUTION,
    )


class FinetuneEveryConfig(EveryConfig):
    """What happens every so many steps."""

    evaluate_steps: PositiveInt | None = Field(
        None, description="Steps between evaluations, which choose the best checkpoint; null: once an epoch."
    )
    save_steps: PositiveInt | None = Field(
        None,
        description="Steps between checkpoints beside those of evaluations; null: none.",
        json_schema_extra=EXECUTION,
    )


class FinetuneConfig(Section):
    """Everything a fine-tuning run depends on."""

    task: TaskConfig = TaskConfig()
    model: FinetuneModelConfig = FinetuneModelConfig()
    optim: FinetuneOptimConfig = FinetuneOptimConfig()
    train: FinetuneTrainConfig = FinetuneTrainConfig()
    every: FinetuneEveryConfig = FinetuneEveryConfig()

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.train.max_steps is not None and self.train.epochs is not None:
            raise ValueError("train.max_steps and train.epochs both say how long to train: set one of them to null")
        if self.model.lora is not None:
            _require_plain(self.model)
        if self.model.freeze == "encoder" and self.model.reinit_layers:
            raise ValueError(
                f"model.reinit_layers {self.model.reinit_layers} begins layers anew that model.freeze=encoder never "
                "trains: set one only (recipe stable sets the first, --feature-based the second)"
            )
        return self


def _require_plain(model: FinetuneModelConfig) -> None:
    if model.bilstm is not None:
        raise ValueError("model.lora trains adapters and a plain head, no model.bilstm: set one of the two to null")
    if model.freeze != "none":
        raise ValueError("model.lora freezes the encoder by itself: set model.freeze to none")
    if model.reinit_layers:
        raise ValueError("model.reinit_layers needs whole layers trained, and model.lora does not: set one only")
