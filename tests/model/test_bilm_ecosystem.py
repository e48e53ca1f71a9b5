"""The biLM's classes at work in transformers: Auto classes, saving, Trainer, a pipeline, code that travels."""

from pathlib import Path

import pytest
import torch
import transformers
from toy_encoder import PIECES
from transformers import AutoConfig, AutoTokenizer, BertTokenizer, Trainer, TrainingArguments, pipeline
from transformers.dynamic_module_utils import get_relative_import_files

import bertkit.model
from bertkit.model import (
    BiLMConfig,
    BiLMForPreTraining,
    BiLMForSequenceClassification,
    BiLMForTokenClassification,
    BiLMModel,
    modeling_bilm,
)

CLASSES = {
    "AutoModel": "BiLMModel",
    "AutoModelForMultipleChoice": "BiLMForMultipleChoice",
    "AutoModelForPreTraining": "BiLMForPreTraining",
    "AutoModelForQuestionAnswering": "BiLMForQuestionAnswering",
    "AutoModelForSequenceClassification": "BiLMForSequenceClassification",
    "AutoModelForTokenClassification": "BiLMForTokenClassification",
}


@pytest.fixture
def bilm_config() -> BiLMConfig:
    return BiLMConfig(
        vocab_size=len(PIECES), hidden_size=16, intermediate_size=24, hidden_dropout_prob=0.0, num_labels=2,
        max_position_embeddings=32,
    )  # fmt: skip


@pytest.mark.parametrize(("auto_class", "our_class"), CLASSES.items())
def test_what_is_saved_opens_through_the_auto_class(bilm_config, tmp_path, auto_class, our_class) -> None:
    model = getattr(bertkit.model, our_class)(bilm_config)
    model.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, auto_class).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_a_biLM_is_not_opened_to_fill_masks(bilm_config, tmp_path) -> None:
    BiLMForPreTraining(bilm_config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)


def test_a_config_survives_saving(bilm_config, tmp_path) -> None:
    bilm_config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, BiLMConfig)
    assert loaded.to_diff_dict() == bilm_config.to_diff_dict()


def test_a_head_begins_on_a_pretrained_biLM_and_is_new_itself(bilm_config, tmp_path) -> None:
    pretrained = BiLMForPreTraining(bilm_config)
    pretrained.save_pretrained(tmp_path)
    model, report = BiLMForTokenClassification.from_pretrained(tmp_path, bilstm={"size": 6}, output_loading_info=True)
    assert {name.partition(".")[0] for name in report["missing_keys"]} == {"reader", "classifier"}
    assert all(torch.equal(one, model.bert.state_dict()[name]) for name, one in pretrained.bert.state_dict().items())
    assert model.reader.forwards[0].bias_ih_l0.view(4, -1).mean(1).tolist() == [0, 1, 0, 0]


def test_the_vocabulary_projection_stays_tied_through_saving_and_resizing(bilm_config, tmp_path) -> None:
    BiLMForPreTraining(bilm_config).save_pretrained(tmp_path)
    model = BiLMForPreTraining.from_pretrained(tmp_path)
    model.resize_token_embeddings(len(PIECES) + 5)
    assert model.mlm_head.decoder.weight is model.get_input_embeddings().weight
    assert model.mlm_head.decoder.bias.shape == (len(PIECES) + 5,)


def test_trainer_lowers_the_loss_on_padded_batches(bilm_config, tmp_path) -> None:
    ids = (torch.arange(8)[:, None] * 3 + torch.arange(9)) % 30 + 5
    rows = [{"input_ids": row, "attention_mask": torch.ones(9).long(), "labels": row} for row in ids] * 8
    arguments = TrainingArguments(
        str(tmp_path), report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True, seed=0,
        num_train_epochs=20, learning_rate=2e-2, logging_steps=10,
    )  # fmt: skip
    run = Trainer(BiLMForPreTraining(bilm_config), arguments, train_dataset=rows)
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] / 2


def test_pipelines_work_unchanged(bilm_config, tmp_path) -> None:
    BertTokenizer(vocab={piece: n for n, piece in enumerate(PIECES)}, do_lower_case=True).save_pretrained(tmp_path)
    BiLMForSequenceClassification(bilm_config).save_pretrained(tmp_path)
    classify = pipeline("text-classification", model=str(tmp_path))
    assert isinstance(classify.model, BiLMForSequenceClassification)
    assert {answer["label"] for answer in classify(["the cat", "who sat"], top_k=None)[0]} == {"LABEL_0", "LABEL_1"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    extract = pipeline("feature-extraction", model=BiLMModel(bilm_config), tokenizer=tokenizer)
    assert len(extract("the cat")[0]) == 4


def test_everything_it_imports_travels_with_it() -> None:
    files = {Path(path).stem for path in get_relative_import_files(modeling_bilm.__file__)}
    assert {"configuration_bilm", "modeling_heads", "recurrent", "reader", "packing"} <= files
