"""The shape of a bertkit BERT, in Hugging Face's field names and with the paper's defaults (BERT base)."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class BertKitConfig(PreTrainedConfig):
    """The shape of a bertkit BERT: the fields and defaults of `BertConfig` (Devlin et al. 2019, section 3).

    is_decoder: a token sees those before it only (left-to-right, as OpenAI GPT). pooled_token: 'first', BERT's [CLS],
    or 'last', the one that has seen everything where tokens see no later ones. bilstm: what a fine-tuning head has
    between the encoder and its classifier (`BiLSTMReader`); None: nothing.

    A folder or Hub repository of a stock `bert` opens as one too.
    """

    model_type = "bertkit"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    classifier_dropout: float | int | None = None
    tie_word_embeddings: bool = True
    is_decoder: bool = False
    pooled_token: str = "first"
    bilstm: dict[str, Any] | None = None

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config file as transformers does, taking a stock `bert` one for ours."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == "bert":
            config["model_type"] = cls.model_type
        return config, unused

    @property
    def head_dropout(self) -> float:
        """The dropout before a classifier: `classifier_dropout`, or the hidden one where that is None."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    def check_is_possible(self) -> None:
        """Raise ValueError for a shape that cannot be built."""
        if self.hidden_size % self.num_attention_heads != 0:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}: "
                "make it one"
            )
        if getattr(self, "add_cross_attention", False):
            raise ValueError("bertkit reads one text: set add_cross_attention to False")
        if self.pooled_token not in ("first", "last"):
            raise ValueError(f"pooled_token {self.pooled_token!r} is neither 'first' nor 'last'")
