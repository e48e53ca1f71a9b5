"""The collators and the models work under transformers' own Trainer, bertkit's and stock alike."""

import pytest
import torch
from transformers import BertConfig, BertForPreTraining, Trainer, TrainingArguments

from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import PairRule
from bertkit.data.loader import PretrainingDataset
from bertkit.model import BertKitConfig, BertKitForPreTraining

SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("config_class", "model_class", "packed"),
    [
        (BertConfig, BertForPreTraining, False),
        (BertKitConfig, BertKitForPreTraining, False),
        (BertKitConfig, BertKitForPreTraining, True),
    ],
    ids=["stock padded", "bertkit padded", "bertkit packed"],
)
def test_trainer_pretrains_on_the_store_and_the_loss_falls(store, tmp_path, config_class, model_class, packed):
    torch.manual_seed(0)
    model = model_class(config_class(vocab_size=store.vocabulary.size, **SHAPE))
    arguments = TrainingArguments(
        output_dir=tmp_path,
        max_steps=60,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        logging_steps=20,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=PretrainingDataset(store.split("train"), store.vocabulary, PairRule(max_seq_length=48)),
        data_collator=DataCollatorForPretraining(store.vocabulary, packed=packed),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] - 0.5


def test_an_epoch_draws_pairs_and_masks_anew(store):
    dataset = PretrainingDataset(store.split("train"), store.vocabulary, PairRule(max_seq_length=48))
    collate = DataCollatorForPretraining(store.vocabulary)
    first, again = collate([dataset[0]]), collate([dataset[0]])
    assert not torch.equal(first["labels"], again["labels"])
    before = dataset[0]["input_ids"].tolist()
    dataset.set_epoch(1)
    assert dataset[0]["input_ids"].tolist() != before
    dataset.set_epoch(0)
    assert dataset[0]["input_ids"].tolist() == before


def test_workers_of_a_data_loader_mask_differently_and_anew_each_epoch(store):
    instance = PretrainingDataset(store.split("train"), store.vocabulary, PairRule(max_seq_length=48))[0]
    loader = torch.utils.data.DataLoader(
        [instance] * 2, batch_size=1, num_workers=2, collate_fn=DataCollatorForPretraining(store.vocabulary)
    )
    masks = [tuple(batch["labels"][0].tolist()) for _ in range(2) for batch in loader]
    assert len(set(masks)) == 4
