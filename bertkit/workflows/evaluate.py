"""Scores a pre-trained BERT on its held-out documents, with masks that are the same every time."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn

from bertkit.config.schema import PretrainConfig
from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import BlockEpoch, PairRule
from bertkit.data.loader import draw_epoch, heldout_batches
from bertkit.data.store import TokenStore
from bertkit.errors import CorpusError
from bertkit.train.setup import build_accelerator
from bertkit.workflows.assemble import pretraining_terms
from bertkit.workflows.pinned import open_trained
from bertkit.workflows.runs import RunFolder, newest_run, write_aside
from bertkit.workflows.watch import Unwatched, Watcher

# Held-out pairs and masks are drawn with a seed of their own, so runs of every seed answer the same questions.
HELDOUT_SEED = 20190524
HELDOUT_BATCH_SIZE = 32


def evaluate(run_path: Path | None = None, *, watch: Watcher | None = None) -> dict[str, Any]:
    """Scores the last good checkpoint of a run (the newest run by default) and writes `results.json`.

    Returns masked LM loss (nats), accuracy and perplexity, next sentence accuracy, and the baselines beside them.

    Raises:
        CheckpointError: there is no such run, or it has no checkpoint.
        CorpusError: its token store is gone, or has no held-out documents.
    """
    run = newest_run() if run_path is None else RunFolder(run_path)
    config, store, model, step = open_trained(run)
    accelerator = build_accelerator(_evaluation_precision(config))
    scores = score_heldout(
        accelerator.prepare_model(model, evaluation_mode=True),
        store,
        config,
        accelerator=accelerator,
        max_seq_length=config.train.phases[-1].max_seq_length,
        watch=watch,
    )
    results = {"step": step, "heldout": scores}
    write_aside(run.results_file, json.dumps(results, indent=2) + "\n")
    return results


def _evaluation_precision(config: PretrainConfig) -> Literal["auto", "fp32", "bf16", "fp16"]:
    # A run trained in fp16 on a GPU may be scored on a machine without one.
    return "fp32" if config.train.precision == "fp16" and not torch.cuda.is_available() else config.train.precision


def score_heldout(
    model: nn.Module,
    store: TokenStore,
    config: PretrainConfig,
    *,
    accelerator: Accelerator,
    max_seq_length: int,
    watch: Watcher | None = None,
) -> dict[str, float]:
    """Scores `model` on up to `every.evaluate_instances` held-out instances of `max_seq_length` tokens at the most.

    `unigram_entropy` (nats) is the masked LM loss of word frequencies alone; `nsp_majority` the accuracy of always
    giving the commoner next sentence label.
    """
    instances, collator = heldout_instances(store, config, max_seq_length=max_seq_length)
    total = min(config.every.evaluate_instances, len(instances))
    tally = _Tally(store.unigram_counts)
    was_training = model.training
    model.eval()
    batches = heldout_batches(instances, collator, batch_size=HELDOUT_BATCH_SIZE, max_instances=total)
    with torch.no_grad():
        for number, batch in enumerate(batches):
            tally.add(batch, pretraining_terms(model, send_to_device(batch, accelerator.device)))
            (watch or Unwatched()).work("evaluating", min((number + 1) * HELDOUT_BATCH_SIZE, total), total)
    model.train(was_training)
    return tally.scores()


def heldout_instances(
    store: TokenStore, config: PretrainConfig, *, max_seq_length: int
) -> tuple[BlockEpoch, DataCollatorForPretraining]:
    """The held-out instances, fixed for a store and a length, and the collator that masks them as the paper does.

    Raises:
        CorpusError: the store has no held-out documents.
    """
    split = store.split("heldout")
    if not split.num_documents:
        raise CorpusError(
            "the token store has no held-out documents: prepare four documents or more, with data.heldout_share above 0"
        )
    # One held-out document has no other to take a random B from.
    next_sentence = config.pairs.next_sentence
    alone = next_sentence == "nsp" and split.num_documents < 2
    rule = PairRule(
        max_seq_length=max_seq_length,
        next_sentence="off" if alone else next_sentence,
        short_seq_probability=0.0,
    )
    collator = DataCollatorForPretraining(store.vocabulary, packed=True)
    return draw_epoch(split, store.vocabulary, rule, seed=HELDOUT_SEED), collator


class _Tally:
    """Adds up sums and counts over batches; they are divided once, at the end."""

    def __init__(self, unigram_counts: np.ndarray[Any, Any]) -> None:
        self._terms: dict[str, list[float]] = {}
        # Add-one smoothing: a held-out word that training never saw has a probability too.
        self._unigram_nats = -np.log((unigram_counts + 1) / (unigram_counts + 1).sum())
        self._entropy = 0.0
        self._tokens = self._random_next = self._instances = 0

    def add(self, batch: dict[str, Any], terms: dict[str, Any]) -> None:
        for name, term in terms.items():
            total = self._terms.setdefault(name, [0.0, 0, 0])
            for place, value in enumerate((term.sum, term.count, term.correct)):
                total[place] += float(value)
        self._entropy += float(self._unigram_nats[batch["labels"].numpy()].sum())
        self._tokens += len(batch["input_ids"])
        self._instances += len(batch["cu_seqlens"]) - 1
        if "next_sentence_label" in batch:
            self._random_next += int((batch["next_sentence_label"] == 1).sum())

    def scores(self) -> dict[str, float]:
        mlm_sum, mlm_count, mlm_correct = self._terms["mlm"]
        scores = {
            "mlm_loss": mlm_sum / mlm_count,
            "mlm_accuracy": mlm_correct / mlm_count,
            "mlm_perplexity": math.exp(min(mlm_sum / mlm_count, 700.0)),
            "unigram_entropy": self._entropy / mlm_count,
        }
        if self._terms.get("nsp", [0, 0, 0])[1]:
            nsp_sum, nsp_count, nsp_correct = self._terms["nsp"]
            random_share = self._random_next / nsp_count
            scores |= {
                "nsp_loss": nsp_sum / nsp_count,
                "nsp_accuracy": nsp_correct / nsp_count,
                "nsp_majority": max(random_share, 1 - random_share),
            }
        return scores | {"num_instances": self._instances, "num_tokens": self._tokens}
