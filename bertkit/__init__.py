"""bertkit: a folder of text to a pre-trained, fine-tuned, scored and published BERT."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> where it lives. Nothing is imported before it is asked for: `bertkit --help` must answer at once.
_HOMES = {
    "BertKitConfig": "bertkit.model",
    "BertKitForMaskedLM": "bertkit.model",
    "BertKitForMultipleChoice": "bertkit.model",
    "BertKitForNextSentencePrediction": "bertkit.model",
    "BertKitForPreTraining": "bertkit.model",
    "BertKitForQuestionAnswering": "bertkit.model",
    "BertKitForSequenceClassification": "bertkit.model",
    "BertKitForTokenClassification": "bertkit.model",
    "BertKitModel": "bertkit.model",
    "BertkitError": "bertkit.errors",
    "DataCollatorForPretraining": "bertkit.data.collate",
    "FinetuneConfig": "bertkit.config.finetune",
    "PairRule": "bertkit.data.instances",
    "PretrainConfig": "bertkit.config.schema",
    "PretrainingDataset": "bertkit.data.loader",
    "TaskSpec": "bertkit.tasks.spec",
    "TokenStore": "bertkit.data.store",
    "evaluate": "bertkit.workflows.evaluate",
    "export": "bertkit.workflows.export",
    "find_task": "bertkit.tasks.registry",
    "finetune": "bertkit.workflows.finetune",
    "predict": "bertkit.workflows.predict",
    "prepare": "bertkit.workflows.prepare",
    "pretrain": "bertkit.workflows.pretrain",
    "register_task": "bertkit.tasks.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bertkit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
