"""`bertkit bench pretrain`: a real step of bertkit against a step of BertForPreTraining under Trainer."""

from dataclasses import replace
from functools import partial

from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError
from bertkit.workflows.bench.compare import BenchResult, Comparison, compare
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.ours import build_ours
from bertkit.workflows.bench.rates import FORMULA, build_rates
from bertkit.workflows.bench.request import Request, device_type, machine, pairs_of, precisions_here, shape_said
from bertkit.workflows.bench.sides import Side
from bertkit.workflows.bench.stock import build_stock
from bertkit.workflows.bench.work import PretrainingWork, TrainingWork
from bertkit.workflows.initial import with_initial_shape

LONGEST = 128


def bench_pretraining(request: Request) -> BenchResult:
    """Takes bertkit and Trainer in turn over the same instances of the same store.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    if request.config.direction != "bidirectional":
        raise ConfigError(
            f"bench pretrain compares with transformers' BERT, which does not learn {request.config.objective}: "
            "bertkit bench objectives compares the objectives"
        )
    request = replace(request, config=from_scratch(request.config))
    config, watch = request.config, request.watch
    with prepared_sample(config, request.corpus, watch=watch) as (sample, _):
        phase = bench_phase(config)
        work = PretrainingWork(config, sample.store.location, phase)
        length = config.train.phases[phase].max_seq_length
        vocab_size = work.shape().vocab_size
        settings = {
            **shape_said(config, vocab_size),
            "data": f"{request.corpus or 'demo corpus'}, {sample.store.split('train').num_tokens:,} tokens",
            "length": f"up to {length} tokens",
            "instances": f"next sentence {config.pairs.next_sentence}, {config.masking.mlm_probability:.0%} masked",
        }
        return compare(
            training_comparison("pretrain", request, work, settings=settings, stock={"transformers": None}),
            rounds=request.rounds,
            steps=request.steps,
            watch=watch,
        )


def training_comparison(
    subject: str, request: Request, work: TrainingWork, *, settings: dict[str, str], stock: dict[str, int | None]
) -> Comparison:
    """Both sides of a training comparison at every precision, and the matmul rate; `stock`: names, to what they pad.

    Raises:
        ConfigError: the stock side lacks the optimizer.
    """
    config = request.config
    precisions, device = precisions_here(config), device_type()
    stock = stock if request.against == "transformers" else {}
    if stock and config.optim.name != "adamw":
        raise ConfigError(
            f"Trainer has no {config.optim.name}: compare with --set optim.name=adamw, or measure --against nothing"
        )
    ours = [Side(f"bertkit {p}", partial(build_ours, work, p), p) for p in precisions]
    theirs = [
        Side(f"{name} {p}", partial(build_stock, work, p, pad_to=pad_to), p)
        for name, pad_to in stock.items()
        for p in precisions
    ]
    rates = Side("matmul", partial(build_rates, precisions, config.model, work.tokens_a_pass, device=device))
    said = {name: name.removeprefix("transformers") for name in stock}
    return Comparison(
        subject=subject,
        unit="real tokens/s",
        sides=(*ours, *theirs),
        pairs=pairs_of(config, said),
        settings=settings,
        machine=machine(),
        rates=rates,
        notes=(FORMULA, STOCK_NOTE) if stock else (FORMULA,),
    )


STOCK_NOTE = (
    "stock batches hold the same instances and are masked and padded ahead in a thread: the stock side never waits for "
    "data; its steps are timed between Trainer's on_step_end calls"
)


def from_scratch(config: PretrainConfig) -> PretrainConfig:
    """The shape of the model to continue from, with new weights: both sides begin alike."""
    config = with_initial_shape(config)
    return config.model_copy(update={"train": config.train.model_copy(update={"init_from": None})})


def bench_phase(config: PretrainConfig) -> int:
    """The phase of the longest sequences up to 128 tokens; without one, of the shortest."""
    lengths = [phase.max_seq_length for phase in config.train.phases]
    fitting = [length for length in lengths if length <= LONGEST]
    return lengths.index(max(fitting) if fitting else min(lengths))
