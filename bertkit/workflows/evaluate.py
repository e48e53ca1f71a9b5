"""Scores a pre-trained BERT on its held-out documents, with masks that are the same every time."""

import json
import math
from collections.abc import Mapping
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
from bertkit.data.loader import draw_epoch
from bertkit.data.store import TokenStore
from bertkit.errors import CorpusError
from bertkit.train.processes import launched_processes
from bertkit.train.setup import build_accelerator, dealt, sum_over_processes
from bertkit.workflows.assemble import pretraining_terms, what_is_predicted, word_labels
from bertkit.workflows.pinned import open_trained
from bertkit.workflows.provenance import kept_provenance
from bertkit.workflows.runs import RunFolder, newest_run, write_aside
from bertkit.workflows.watch import Unwatched, Watcher

# Held-out pairs and masks are drawn with a seed of their own, so runs of every seed answer the same questions.
HELDOUT_SEED = 20190524
HELDOUT_BATCH_SIZE = 32
_TERMS = [f"{term}_{part}" for term in ("mlm", "lm", "nsp") for part in ("sum", "count", "correct")]
_SUMS = ["entropy", "tokens", "instances", "random_next", *_TERMS]


def evaluate(run_path: Path | None = None, *, watch: Watcher | None = None) -> dict[str, Any]:
    """Scores the last good checkpoint of a run (the newest run by default) and writes `results.json`.

    Returns masked LM loss (nats), accuracy and perplexity, or those of the LM where the objective is one (the mean of
    both directions of a biLM), next sentence accuracy, and the baselines beside them.

    Raises:
        CheckpointError: there is no such run, or it has no checkpoint.
        CorpusError: its token store is gone, or has no held-out documents.
    """
    with launched_processes().watched():
        return score_run(newest_run() if run_path is None else RunFolder(run_path), watch=watch)


def score_run(
    run: RunFolder,
    *,
    config: PretrainConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """`evaluate` for a run that has just ended, by its own `config`, which may name its store with a password.

    `provenance` is written beside the scores; without it, that of the earlier results stays.

    Raises:
        CheckpointError: there is no such run, or it has no checkpoint.
        CorpusError: its token store is gone, or has no held-out documents.
    """
    config, store, model, step = open_trained(run, config)
    accelerator = build_accelerator(_evaluation_precision(config))
    scores = score_heldout(
        accelerator.prepare_model(model.to(accelerator.device), evaluation_mode=True),
        store,
        config,
        accelerator=accelerator,
        max_seq_length=config.train.phases[-1].max_seq_length,
        watch=watch,
    )
    provenance = kept_provenance(run) if provenance is None else provenance
    results = {"step": step, "heldout": scores, **({"provenance": provenance} if provenance else {})}
    if accelerator.is_main_process:
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

    Each is scored by one of the processes, and all of them return the scores.
    `unigram_entropy` (nats) is the loss of word frequencies alone; `nsp_majority` the accuracy of always
    giving the commoner next sentence label.
    """
    instances, collator = heldout_instances(store, config, max_seq_length=max_seq_length)
    total = min(config.every.evaluate_instances, len(instances))
    tally = _Tally(store.unigram_counts)
    was_training = model.training
    model.eval()
    starts = range(0, total, HELDOUT_BATCH_SIZE)
    with torch.no_grad():
        for start, counts in dealt(starts, accelerator):
            stop = min(start + HELDOUT_BATCH_SIZE, total)
            batch = collator([instances[place] for place in range(start, stop)])
            terms = pretraining_terms(model, send_to_device(batch, accelerator.device))
            if counts:
                tally.add(batch, terms)
            (watch or Unwatched()).work("evaluating", stop, total)
    model.train(was_training)
    return tally.scores(accelerator)


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
    collator = DataCollatorForPretraining(store.vocabulary, packed=True, predicts=what_is_predicted(config))
    return draw_epoch(split, store.vocabulary, rule, seed=HELDOUT_SEED), collator


class _Tally:
    """Adds up sums and counts over batches and processes; they are divided once, at the end."""

    def __init__(self, unigram_counts: np.ndarray[Any, Any]) -> None:
        self._sums = dict.fromkeys(_SUMS, 0.0)
        # Add-one smoothing: a held-out word that training never saw has a probability too.
        self._unigram_nats = -np.log((unigram_counts + 1) / (unigram_counts + 1).sum())

    def add(self, batch: dict[str, Any], terms: dict[str, Any]) -> None:
        for name, term in terms.items():
            self._sums[f"{name}_sum"] += float(term.sum)
            self._sums[f"{name}_count"] += float(term.count)
            self._sums[f"{name}_correct"] += float(term.correct)
        self._sums["entropy"] += float(self._unigram_nats[word_labels(batch).numpy()].sum())
        self._sums["tokens"] += len(batch["input_ids"])
        self._sums["instances"] += len(batch["cu_seqlens"]) - 1
        if "next_sentence_label" in batch:
            self._sums["random_next"] += int((batch["next_sentence_label"] == 1).sum())

    def scores(self, accelerator: Accelerator) -> dict[str, float]:
        """The scores of what all processes added."""
        total = dict(zip(_SUMS, sum_over_processes(accelerator, list(self._sums.values())), strict=True))
        words = "mlm" if total["mlm_count"] else "lm"
        loss = total[f"{words}_sum"] / total[f"{words}_count"]
        scores = {
            f"{words}_loss": loss,
            f"{words}_accuracy": total[f"{words}_correct"] / total[f"{words}_count"],
            f"{words}_perplexity": math.exp(min(loss, 700.0)),
            "unigram_entropy": total["entropy"] / total[f"{words}_count"],
        }
        if total["nsp_count"]:
            random_share = total["random_next"] / total["nsp_count"]
            scores |= {
                "nsp_loss": total["nsp_sum"] / total["nsp_count"],
                "nsp_accuracy": total["nsp_correct"] / total["nsp_count"],
                "nsp_majority": max(random_share, 1 - random_share),
            }
        return scores | {"num_instances": int(total["instances"]), "num_tokens": int(total["tokens"])}
