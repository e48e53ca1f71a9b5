"""Opening a fine-tuned model: a run, a folder or a Hub id, bertkit's or any stock BERT with a head."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from bertkit.config.finetune import FinetuneConfig
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import ConfigError, refused_as
from bertkit.model.families import class_for
from bertkit.tasks.problem import ProblemOptions
from bertkit.tasks.problems import PROBLEMS
from bertkit.tasks.registry import list_tasks
from bertkit.tasks.spec import ProblemName, TaskSpec
from bertkit.train.setup import build_accelerator
from bertkit.workflows.infer import Predictor
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.source import bert_folder, open_bert_config, require_room
from bertkit.workflows.task_data import own_spec

_HEADS: dict[str, ProblemName] = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tagging",
    "ForQuestionAnswering": "span_qa",
    "ForMultipleChoice": "multiple_choice",
}
_LONGEST_WITHOUT_SAYING = 512


@dataclass(frozen=True)
class Finetuned:
    """A model with a head, ready to predict; `config` is that of the run it comes from, if it comes from one."""

    source: str
    spec: TaskSpec
    predictor: Predictor
    accelerator: Accelerator
    config: FinetuneConfig | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the model's ids."""
        return self.predictor.options.labels


def open_finetuned(source: str, *, precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto") -> Finetuned:
    """The model of a fine-tuning run, or of any BERT folder or Hub id with one of transformers' heads.

    Raises:
        CheckpointError: the run is not finished.
        ConfigError: there is no such model, or it has no head to predict with; says what to do.
    """
    run = RunFolder(Path(source))
    own = run.read_config(FinetuneConfig) if run.is_finetuning() else None
    model_config = open_bert_config(source)
    problem = _problem_of(source, model_config)
    with refused_as(ConfigError, f"{source} describes its options or labels in config.json as bertkit never would"):
        options = _options(model_config, problem)
    folder = bert_folder(source)
    with refused_as(ConfigError, f"{source} cannot be opened as a {problem} model"):
        model_class: Any = class_for(model_config, PROBLEMS[problem].model_class)
        model: Any = model_class.from_pretrained(folder, dtype=torch.float32)
    accelerator = build_accelerator(precision)
    model = accelerator.prepare_model(model.to(accelerator.device), evaluation_mode=True)
    tokenizer = load_tokenizer(folder)
    require_room(model_config, tokenizer.vocabulary, source)
    encoder = TextEncoder(tokenizer)
    predictor = Predictor(PROBLEMS[problem], model.eval(), encoder, options, accelerator)
    return Finetuned(source, _spec_of(model_config, problem, own), predictor, accelerator, own)


def _problem_of(source: str, model_config: Any) -> ProblemName:
    said = _said(model_config).get("problem")
    if said in PROBLEMS:
        return said  # type: ignore[no-any-return]
    architecture = next(iter(model_config.architectures or []), "")
    problem = next((name for ending, name in _HEADS.items() if architecture.endswith(ending)), None)
    if problem is None:
        raise ConfigError(
            f"{source} has no head to predict with ({architecture or 'unknown class'}): fine-tune it first"
        )
    if problem == "classification" and model_config.problem_type == "multi_label_classification":
        return "multi_label"
    if problem == "classification" and (model_config.problem_type == "regression" or model_config.num_labels == 1):
        return "regression"
    return problem


def _options(model_config: Any, problem: ProblemName) -> ProblemOptions:
    """The options the model was trained with, or, where it does not say, as much as it can take in."""
    said = _said(model_config)
    known = {field.name for field in fields(ProblemOptions)} - {"labels", "class_weights"}
    values = {name: value for name, value in said.items() if name in known and value is not None}
    if isinstance(values.get("thresholds"), list):
        values["thresholds"] = tuple(values["thresholds"])
    longest = min(model_config.max_position_embeddings, _LONGEST_WITHOUT_SAYING)
    defaults = {"max_seq_length": longest, "doc_stride": 128 if problem == "span_qa" else longest // 2}
    return ProblemOptions(labels=_labels(model_config), **{**defaults, **values})


def _labels(model_config: Any) -> tuple[str, ...]:
    names = {int(number): str(name) for number, name in (model_config.id2label or {}).items()}
    return tuple(names[number] for number in sorted(names))


def _said(model_config: Any) -> dict[str, Any]:
    """What bertkit wrote into the config of a model it trained."""
    said = getattr(model_config, "bertkit", None)
    return said if isinstance(said, dict) else {}


def _spec_of(model_config: Any, problem: ProblemName, own: FinetuneConfig | None) -> TaskSpec:
    said = _said(model_config)
    named = {spec.name: spec for spec in list_tasks()}
    if said.get("task") in named:
        return named[said["task"]]
    spec = own_spec((own or FinetuneConfig()).task, problem)
    return replace(spec, name=said.get("task", spec.name), metrics=tuple(said.get("metrics", spec.metrics)))
