"""`bertkit bench objectives`: a pre-training step of every objective, and what causal attention alone costs."""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from bertkit.config.load import validate_config
from bertkit.config.schema import Objective, PretrainConfig
from bertkit.model import BertKitConfig, BertKitForMaskedLM
from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.ours import build_ours
from bertkit.workflows.bench.pretraining import bench_phase, from_scratch
from bertkit.workflows.bench.request import Request, default_precision, machine, shape_said
from bertkit.workflows.bench.sides import Side
from bertkit.workflows.bench.work import PretrainingWork

MASKED = "mlm"
CAUSAL = "mlm, causal attention"
OBJECTIVES: tuple[Objective, ...] = ("mlm", "mlm+nsp", "ltr", "bilm")


@dataclass(frozen=True)
class CausalWork(PretrainingWork):
    """The batches and the head of masked LM on an encoder that looks to the left: only its attention is another."""

    def our_model(self) -> PreTrainedModel:
        """A model of no use but for its speed."""
        shape = BertKitConfig(**{**self.shape().to_dict(), "is_decoder": True})
        torch.manual_seed(self.config.train.seed)
        return BertKitForMaskedLM(shape)


def bench_objectives(request: Request) -> BenchResult:
    """Takes the objectives in turn over the same store.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    config, watch = from_scratch(request.config), request.watch
    with prepared_sample(config, request.corpus, watch=watch) as (sample, _):
        phase, location, precision = bench_phase(config), sample.store.location, default_precision(config)
        works: dict[str, PretrainingWork] = {
            name: PretrainingWork(with_objective(config, name), location, phase) for name in OBJECTIVES
        }
        works[CAUSAL] = CausalWork(works[MASKED].config, location, phase)
        sides = [Side(name, partial(build_ours, work, precision), precision) for name, work in works.items()]
        pairs = [Pair(_alike(name), name, MASKED) for name in works if name != MASKED]
        comparison = Comparison(
            subject="objectives",
            unit="real tokens/s",
            sides=tuple(sides),
            pairs=tuple(pairs),
            settings={
                **shape_said(config, works[MASKED].shape().vocab_size),
                "data": f"{request.corpus or 'demo corpus'}, {sample.store.split('train').num_tokens:,} tokens",
                "length": f"up to {config.train.phases[phase].max_seq_length} tokens",
            },
            machine=machine(),
        )
        return compare(comparison, rounds=request.rounds, steps=request.steps, watch=watch)


def with_objective(config: PretrainConfig, objective: Objective) -> PretrainConfig:
    """The config with another objective, and its pairs as that one has them."""
    values = config.model_dump()
    values["objective"] = objective
    del values["pairs"]["next_sentence"]
    return validate_config(PretrainConfig, values, source=objective)


def _alike(name: str) -> str:
    return "same batches, other attention" if name == CAUSAL else "same store, other objective"
