"""bertkit's BERT and its ELMo-style biLM: importing this package registers it with transformers' Auto classes.

Its modules import one another relatively, since transformers copies them beside weights that are to carry their code.
"""

from contextlib import suppress
from typing import Any, cast

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForNextSentencePrediction,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto

from .configuration_bertkit import BertKitConfig
from .configuration_bilm import BiLMConfig
from .convert import to_stock
from .families import BILM, class_for
from .losses import pretraining_correct, pretraining_counts, pretraining_losses
from .modeling_bertkit import (
    BertKitForCausalLM,
    BertKitForMaskedLM,
    BertKitForNextSentencePrediction,
    BertKitForPreTraining,
    BertKitModel,
    BertKitPreTrainedModel,
)
from .modeling_bilm import (
    BiLMForMultipleChoice,
    BiLMForPreTraining,
    BiLMForPreTrainingOutput,
    BiLMForQuestionAnswering,
    BiLMForSequenceClassification,
    BiLMForTokenClassification,
    BiLMModel,
    BiLMPreTrainedModel,
)
from .modeling_heads import (
    BertKitForMultipleChoice,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
)
from .outputs import BertKitForPreTrainingOutput

__all__ = [
    "BertKitConfig",
    "BertKitForCausalLM",
    "BertKitForMaskedLM",
    "BertKitForMultipleChoice",
    "BertKitForNextSentencePrediction",
    "BertKitForPreTraining",
    "BertKitForPreTrainingOutput",
    "BertKitForQuestionAnswering",
    "BertKitForSequenceClassification",
    "BertKitForTokenClassification",
    "BertKitModel",
    "BertKitPreTrainedModel",
    "BiLMConfig",
    "BiLMForMultipleChoice",
    "BiLMForPreTraining",
    "BiLMForPreTrainingOutput",
    "BiLMForQuestionAnswering",
    "BiLMForSequenceClassification",
    "BiLMForTokenClassification",
    "BiLMModel",
    "BiLMPreTrainedModel",
    "pretraining_correct",
    "pretraining_counts",
    "pretraining_losses",
    "to_stock",
]

# Auto class, our BERT's class behind it (`class_for` has the biLM's), and transformers' table of the class names it
# knows for the same use.
AUTO_CLASSES = (
    (AutoModel, BertKitModel, "MODEL_MAPPING_NAMES"),
    (AutoModelForPreTraining, BertKitForPreTraining, "MODEL_FOR_PRETRAINING_MAPPING_NAMES"),
    (AutoModelForCausalLM, BertKitForCausalLM, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    (AutoModelForMaskedLM, BertKitForMaskedLM, "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    (
        AutoModelForNextSentencePrediction,
        BertKitForNextSentencePrediction,
        "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES",
    ),
    (
        AutoModelForSequenceClassification,
        BertKitForSequenceClassification,
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    ),
    (AutoModelForTokenClassification, BertKitForTokenClassification, "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    (AutoModelForQuestionAnswering, BertKitForQuestionAnswering, "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"),
    (AutoModelForMultipleChoice, BertKitForMultipleChoice, "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES"),
)


def _register() -> None:
    AutoConfig.register(BertKitConfig.model_type, BertKitConfig, exist_ok=True)
    AutoTokenizer.register(BertKitConfig, BertTokenizer, exist_ok=True)
    AutoConfig.register(BILM, BiLMConfig, exist_ok=True)
    AutoTokenizer.register(BiLMConfig, BertTokenizer, exist_ok=True)
    for auto_class, model_class, names in AUTO_CLASSES:
        _register_class(auto_class, model_class, getattr(modeling_auto, names))
        with suppress(ValueError):  # a biLM is not for everything that a BERT is for
            _register_class(auto_class, class_for(BILM, model_class), getattr(modeling_auto, names))


def _register_class(auto_class: Any, model_class: type[PreTrainedModel], names: dict[str, str]) -> None:
    config_class = cast("type[PreTrainedConfig]", model_class.config_class)
    auto_class.register(config_class, model_class, exist_ok=True)
    # Some of transformers' tools, and its test suite, ask by class name what a model is for.
    names[config_class.model_type] = model_class.__name__


_register()
