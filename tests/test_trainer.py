"""The collators and the models work under transformers' own Trainer, bertkit's and stock alike."""

import pytest
import torch
from transformers import BertConfig, BertForPreTraining, Trainer, TrainingArguments

from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import PairRule
from bertkit.data.loader import draw_epoch
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
        train_dataset=draw_epoch(store.split("train"), store.vocabulary, PairRule(max_seq_length=48)),
        data_collator=DataCollatorForPretraining(store.vocabulary, packed=packed),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] - 0.5
