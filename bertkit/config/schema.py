"""The typed configuration of a run: frozen, strict, a description on every field.

Precedence, stated once: defaults here < recipe < ``--set section.key=value`` < the few real options.
Derived numbers are methods; checks across fields name both fields and the fix.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bertkit.config.data import DataConfig
from bertkit.config.leaves import EXECUTION, MICRO_BATCH_TOKENS, PositiveInt, Section, Share, TokenBudget
from bertkit.config.objective import with_one_objective


class ModelConfig(Section):
    """The shape of the encoder, in Hugging Face's canonical field names (Devlin et al. 2019, section 3)."""

    vocab_size: PositiveInt | None = Field(
        None, description="Rows of the embedding table; null: the tokenizer's, rounded up to a multiple of 8."
    )
    hidden_size: PositiveInt = Field(512, description="Width of the residual stream (H in the paper).")
    num_hidden_layers: PositiveInt = Field(4, description="Transformer layers (L in the paper).")
    num_attention_heads: PositiveInt = Field(8, description="Attention heads a layer (A in the paper).")
    intermediate_size: PositiveInt = Field(
        2048, description="Width of the feed-forward layer; 4 x hidden_size in BERT."
    )
    max_position_embeddings: PositiveInt = Field(512, description="Longest sequence the model can ever see, in tokens.")
    hidden_act: Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh"] = Field(
        "gelu", description="Activation of the feed-forward layer, as transformers names it."
    )
    hidden_dropout_prob: Share = Field(0.1, description="Dropout after embeddings and sublayers.")
    attention_probs_dropout_prob: Share = Field(0.1, description="Dropout on attention weights.")
    initializer_range: Annotated[float, Field(gt=0)] = Field(
        0.02, description="Standard deviation of the initial weights."
    )
    layer_norm_eps: Annotated[float, Field(gt=0)] = Field(1e-12, description="Epsilon inside LayerNorm.")

    @model_validator(mode="after")
    def _heads_divide_hidden_size(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"model.hidden_size {self.hidden_size} is not a multiple of model.num_attention_heads "
                f"{self.num_attention_heads}: BERT gives every head 64, so try {max(1, self.hidden_size // 64)} heads"
            )
        return self


class PairsConfig(Section):
    """How instances are drawn from the store (Devlin et al. 2019, appendix A.2)."""

    next_sentence: Literal["nsp", "sop", "off"] = Field(
        "nsp",
        description="'nsp': B follows A or is of another document; 'sop': B follows A or the two are swapped; 'off'.",
    )
    random_next_probability: Share = Field(0.5, description="Share of instances whose B does not follow A.")
    short_seq_probability: Share = Field(0.1, description="Share of instances cut to a random shorter length.")


class MaskingConfig(Section):
    """Masked LM (Devlin et al. 2019, section 3.1 and appendix C.2)."""

    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of tokens to predict.")
    mask_share: Share = Field(0.8, description="Share of those replaced by [MASK].")
    random_share: Share = Field(
        0.1, description="Share of those replaced by a random token; the rest stay as they are."
    )
    whole_word: bool = Field(False, description="Mask all pieces of a word together.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"masking.mask_share {self.mask_share} + masking.random_share {self.random_share} exceed 1: "
                "lower one of them (the paper uses 0.8 and 0.1)"
            )
        return self


class OptimConfig(Section):
    """The optimizer and its schedule."""

    name: Literal["adamw", "lamb"] = Field(
        "adamw",
        description="AdamW with bias correction; LAMB for batches of thousands (pip install pytorch-optimizer).",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="Peak learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.01, description="Decoupled decay; none on biases and LayerNorm."
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Decay of Adam's first moment.")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Decay of Adam's second moment.")
    epsilon: Annotated[float, Field(gt=0)] = Field(1e-6, description="Adam's epsilon.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradients are clipped to this norm.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Shape after warm-up.")
    warmup_steps: Annotated[float, Field(ge=0)] = Field(
        0.05, description="Linear warm-up: steps when 1 or more, a share of the run when below 1."
    )

    @model_validator(mode="after")
    def _whole_warmup_steps(self) -> Self:
        if self.warmup_steps > 1 and self.warmup_steps != int(self.warmup_steps):
            raise ValueError(
                f"optim.warmup_steps {self.warmup_steps} is neither a share below 1 nor a whole number of steps"
            )
        return self


class PhaseConfig(Section):
    """One stretch of pre-training at one sequence length (the paper: 90 % of steps at 128, 10 % at 512)."""

    max_seq_length: Annotated[int, Field(ge=8)] = Field(128, description="Longest instance, in tokens.")
    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Share of the run spent in this phase.")
    micro_batch_tokens: TokenBudget = Field(
        None,
        description="Tokens a forward pass in this phase; null: train.micro_batch_tokens.",
        json_schema_extra=EXECUTION,
    )
    micro_batch_size: PositiveInt | None = Field(
        None,
        description="Instances a forward pass in this phase; null: train.micro_batch_size.",
        json_schema_extra=EXECUTION,
    )


class TrainConfig(Section):
    """How long, how wide and on what."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="Fixes weights, pairs, masks, order and dropout."
    )
    init_from: str | None = Field(
        None, description="BERT folder or Hub id to continue from, instead of random weights."
    )
    global_batch_size: PositiveInt = Field(256, description="Instances an optimizer step, over all devices.")
    micro_batch_tokens: TokenBudget = Field("auto", description=MICRO_BATCH_TOKENS, json_schema_extra=EXECUTION)
    micro_batch_size: PositiveInt | None = Field(
        None,
        description="Instances a forward pass on one device; null: as many as the tokens allow.",
        json_schema_extra=EXECUTION,
    )
    max_steps: PositiveInt | None = Field(None, description="Optimizer steps to run.")
    epochs: Annotated[float, Field(gt=0)] | None = Field(None, description="Passes over the corpus, instead of steps.")
    max_minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Minutes to train, instead of steps or epochs: the schedule then follows the clock."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="'auto': bf16 where the device computes it fast, else fp32."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations in backward: less memory, a third more time.",
        json_schema_extra=EXECUTION,
    )
    phases: tuple[PhaseConfig, ...] = Field(
        (PhaseConfig(),), min_length=1, description="Stretches of the run, in order."
    )

    @model_validator(mode="after")
    def _lengths_of_run(self) -> Self:
        given = [name for name in ("max_steps", "epochs", "max_minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(f"train.{name}" for name in given) or "none"
            raise ValueError(
                "exactly one of train.max_steps, train.epochs, train.max_minutes says how long to train; "
                f"given: {named}. Set the others to null"
            )
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            shares = " + ".join(str(phase.share) for phase in self.phases)
            raise ValueError(f"the shares of train.phases must add up to 1, not {shares}")
        return self

    def micro_batch_tokens_of(self, phase: int) -> TokenBudget:
        """Tokens a forward pass on one device in phase number `phase`."""
        return self.phases[phase].micro_batch_tokens or self.micro_batch_tokens

    def micro_batch_of(self, phase: int) -> int | None:
        """Instances a forward pass on one device in phase number `phase`."""
        return self.phases[phase].micro_batch_size or self.micro_batch_size


class EveryConfig(Section):
    """What happens every so many steps, in any training."""

    log_steps: PositiveInt = Field(10, description="Steps between lines in metrics.jsonl.", json_schema_extra=EXECUTION)
    evaluate_steps: PositiveInt | None = Field(
        None, description="Steps between held-out evaluations; null: only at the end.", json_schema_extra=EXECUTION
    )
    save_steps: PositiveInt | None = Field(
        1000, description="Steps between checkpoints; null: none by steps.", json_schema_extra=EXECUTION
    )
    save_minutes: Annotated[float, Field(gt=0)] | None = Field(
        10, description="Minutes between checkpoints; null: none by the clock.", json_schema_extra=EXECUTION
    )
    keep_checkpoints: PositiveInt = Field(2, description="Last checkpoints kept.", json_schema_extra=EXECUTION)
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = Field(
        (),
        description="Trackers to log to beside metrics.jsonl: tensorboard, wandb, trackio, mlflow.",
        json_schema_extra=EXECUTION,
    )
    energy: bool = Field(
        False,
        description="Estimate the electricity training takes (pip install codecarbon).",
        json_schema_extra=EXECUTION,
    )


class PretrainEveryConfig(EveryConfig):
    """What happens every so many steps, and how much is scored."""

    evaluate_instances: PositiveInt = Field(
        2000, description="Held-out instances scored at the most.", json_schema_extra=EXECUTION
    )


Objective = Literal["mlm+nsp", "mlm+sop", "mlm", "ltr+nsp", "ltr+sop", "ltr", "bilm"]
Direction = Literal["bidirectional", "left-to-right", "bilm"]


class PretrainConfig(Section):
    """Everything a pre-training run depends on."""

    objective: Objective = Field(
        "mlm+nsp",
        description=(
            "What is learned: 'mlm' masked words, with both sides in sight (BERT); 'ltr' the next word, with the left "
            "side in sight (OpenAI GPT); 'bilm' the next and the one before, in two LSTMs (ELMo). '+nsp', '+sop': "
            "and pairs.next_sentence, which may be left out."
        ),
    )
    corpus: str | None = Field(
        None, description="Folder, file, glob, URL or Hub id of the text, or a folder that `bertkit prepare` made."
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    pairs: PairsConfig = PairsConfig()
    masking: MaskingConfig = MaskingConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    every: PretrainEveryConfig = PretrainEveryConfig()

    @property
    def direction(self) -> Direction:
        """What a token's hidden state is made from: both sides at once, the left one, or each by itself."""
        words = self.objective.partition("+")[0]
        directions: dict[str, Direction] = {"mlm": "bidirectional", "ltr": "left-to-right", "bilm": "bilm"}
        return directions[words]

    @model_validator(mode="before")
    @classmethod
    def _one_objective(cls, values: Any) -> Any:
        """Takes the objective from the pairs or the pairs from the objective, whichever is given."""
        return with_one_objective(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        longest = max(phase.max_seq_length for phase in self.train.phases)
        if longest > self.model.max_position_embeddings and self.train.init_from is None:
            raise ValueError(
                f"train.phases max_seq_length {longest} exceeds model.max_position_embeddings "
                f"{self.model.max_position_embeddings}: lower the first or raise the second"
            )
        vocab, wanted = self.model.vocab_size, self.data.tokenizer.vocab_size
        if vocab is not None and self.data.tokenizer.path is None and wanted > vocab:
            raise ValueError(
                f"data.tokenizer.vocab_size {wanted} exceeds model.vocab_size {vocab}: "
                "lower the first, or leave the second null to follow the tokenizer"
            )
        return self
