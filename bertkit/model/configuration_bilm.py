"""The shape of an ELMo-style biLM, in the field names of a bertkit BERT where they mean the same."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class BiLMConfig(PreTrainedConfig):
    """The shape of two stacks of LSTMs, one from either side, over word pieces (Peters et al. 2018).

    hidden_size: numbers a token in every layer, half of them from each direction. intermediate_size: units of an LSTM,
    which projects them to that half. max_position_embeddings: the longest text it is trained on; it can read longer
    ones. bilstm: what a fine-tuning head has between the encoder and its classifier (`BiLSTMReader`); None: nothing.
    The defaults have the vocabulary and the width of BERT base.
    """

    model_type = "bertkit-bilm"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 2
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    classifier_dropout: float | int | None = None
    tie_word_embeddings: bool = True
    bilstm: dict[str, Any] | None = None

    @property
    def head_dropout(self) -> float:
        """The dropout before a classifier: `classifier_dropout`, or the hidden one where that is None."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    def check_is_possible(self) -> None:
        """Raise ValueError for a shape that cannot be built."""
        if self.hidden_size % 2 != 0:
            raise ValueError(f"hidden_size {self.hidden_size} is odd, and each direction has half of it: make it even")
        if self.intermediate_size <= self.hidden_size // 2:
            raise ValueError(
                f"intermediate_size {self.intermediate_size} is projected to {self.hidden_size // 2}, half of "
                "hidden_size: raise the first above that"
            )
