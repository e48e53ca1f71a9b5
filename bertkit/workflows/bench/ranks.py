"""`bertkit bench ranks`: what loading costs one of 1,024 processes, and how evenly tokens are dealt, on one machine.

No other process is there: one rank does exactly its own part, as it would among the others, and sends nothing.
"""

import time
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from bertkit.config.schema import PretrainConfig
from bertkit.data.loader import Batching, Position, PretrainingLoader, deal, longest_first
from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.ours import build_ours
from bertkit.workflows.bench.pretraining import bench_phase
from bertkit.workflows.bench.request import Request, default_precision, machine, shape_said
from bertkit.workflows.bench.sides import Round, Side, Worker, reset_peak
from bertkit.workflows.bench.work import PretrainingWork, Rank
from bertkit.workflows.initial import with_initial_shape

RANKS = (1, 8, 64, 1024)
INSTANCES_A_RANK = 32
STEPS_BALANCED = 20
# A step of loading is far shorter than one of training, and some hold the drawing of a block.
LOADING_STEPS = 10
ALONE, AMONG = "a step of training, alone", f"a step of training, one of {RANKS[-1]:,}"


def bench_ranks(request: Request) -> BenchResult:
    """Takes the loader of the last of 1, 8, 64 and 1,024 ranks in turn, and whole steps of training with two of them.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    config = with_initial_shape(request.config)
    precision = default_precision(config)
    with prepared_sample(config, request.corpus, watch=request.watch) as (sample, _):
        works = {ranks: work_of(config, sample.store.location, ranks) for ranks in RANKS}
        training = [
            Side(name, partial(build_ours, works[ranks], precision)) for name, ranks in ((ALONE, 1), (AMONG, RANKS[-1]))
        ]
        loading = [Side(name_of(ranks), partial(build_loading, works[ranks])) for ranks in RANKS]
        comparison = Comparison(
            subject="ranks",
            unit="real tokens/s",
            sides=(*training, *loading),
            pairs=(Pair("training among them over training alone: as fast is 1", AMONG, ALONE),),
            settings={
                **shape_said(works[1].config, sample.store.manifest.vocab_size),
                "data": f"{request.corpus or 'demo corpus'}, {sample.store.split('train').num_tokens:,} tokens",
                "instances": f"{INSTANCES_A_RANK} a rank, of a global batch of so many times the ranks",
            },
            machine=machine(),
            notes=(
                "loading is measured in processor seconds of all threads of the last rank; training does it ahead, in "
                "threads of its own",
            ),
        )
        result = compare(comparison, rounds=request.rounds, steps=request.steps, watch=request.watch)
    return replace(result, notes=(*result.notes, *overheads(result)))


def overheads(result: BenchResult) -> tuple[str, ...]:
    """What the loader of one of many ranks costs more than that of one alone, as a share of a step of training."""
    seconds = {side.name: side.step_s.median for side in result.sides}
    more = {ranks: (seconds[name_of(ranks)] - seconds[name_of(1)]) / seconds[ALONE] for ranks in RANKS[1:]}
    return tuple(f"{name_of(ranks)}: {share:+.2%} of a step of training" for ranks, share in more.items())


def name_of(ranks: int) -> str:
    """What the side of one of so many ranks is called."""
    return f"loading, one of {ranks:,}" if ranks > 1 else "loading, alone"


def work_of(config: PretrainConfig, store: str, ranks: int) -> PretrainingWork:
    """The training of the last of so many ranks."""
    train = config.train.model_copy(update={"global_batch_size": INSTANCES_A_RANK * ranks})
    config = config.model_copy(update={"train": train})
    return PretrainingWork(config, store, bench_phase(config), Rank(ranks - 1, ranks))


def build_loading(work: PretrainingWork) -> Worker:
    """The side of one rank that loads and does not train."""
    base_bytes = reset_peak("cpu")
    loader = work.loader()
    steps = loader.steps_here(Position())

    def round(num: int) -> Round:
        seconds, tokens = [], 0
        for _ in range(LOADING_STEPS * num):
            started_s = time.process_time()
            step = next(steps)
            seconds.append(time.process_time() - started_s)
            tokens += sum(len(batch["input_ids"]) for batch in step.micro_batches)
        return Round(tuple(seconds), tokens)

    low, high = balance(loader, work)
    settings = {
        "global batch": f"{work.config.train.global_batch_size:,}",
        "tokens a rank, of the mean": f"{low:.2%} to {high:.2%} in {STEPS_BALANCED} steps",
    }
    return Worker(round, pace_s=round(1).total_s, settings=settings, base_bytes=base_bytes)


def balance(loader: PretrainingLoader, work: PretrainingWork) -> tuple[float, float]:
    """The fewest and the most real tokens that any rank has in any of some steps, over the mean of its step."""
    ranks = work.rank.num_processes
    shares = []
    for parts in islice(Batching(INSTANCES_A_RANK * ranks).global_steps(loader.stretches(Position())), STEPS_BALANCED):
        lengths_I = np.concatenate([part.own_lengths_I for part in parts])
        lengths_I = lengths_I[longest_first(lengths_I)]
        tokens = np.bincount(deal(lengths_I, ranks), weights=lengths_I, minlength=ranks)
        shares.append(tokens / tokens.mean())
    return float(np.min(shares)), float(np.max(shares))
