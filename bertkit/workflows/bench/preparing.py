"""`bertkit bench prepare`: reading, cutting, encoding and writing a corpus, against encoding its text and no more."""

import time
from functools import partial
from pathlib import Path

from bertkit.config.data import DataConfig, TokenizerConfig
from bertkit.data.corpus import Corpus
from bertkit.data.pool import usable_cores
from bertkit.data.tokenizer import load_tokenizer
from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.corpora import open_text, prepared_sample
from bertkit.workflows.bench.request import Request, machine
from bertkit.workflows.bench.sides import Round, Side, Worker, reset_peak
from bertkit.workflows.prepare import prepare

LINES_A_BATCH = 10_000


def bench_preparing(request: Request) -> BenchResult:
    """Takes `prepare`, its tokenizer given, and the tokenizer alone in turn over the same text.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    with prepared_sample(request.config, request.corpus, watch=request.watch) as (sample, folder):
        source, data = open_text(request.config.data, request.corpus, folder=folder, watch=request.watch)
        data = data.model_copy(update={"tokenizer": TokenizerConfig(path=str(sample.store.tokenizer_path))})
        megabytes = sum(len(document.text.encode()) for document in source.documents()) / 1e6
        sides = [Side("bertkit prepare", partial(build_ours, source.location, data, folder, megabytes))]
        if request.against == "transformers":
            sides.append(Side("encode_batch_fast", partial(build_raw, source, sample.store.tokenizer_path, megabytes)))
        comparison = Comparison(
            subject="prepare",
            unit="MB/s",
            sides=tuple(sides),
            pairs=(Pair("prepare over encoding alone", *(side.name for side in sides)),) if len(sides) > 1 else (),
            settings={
                "data": f"{request.corpus or 'demo corpus'}, {megabytes:.1f} MB of text",
                "vocabulary": f"{sample.store.manifest.vocab_size:,} pieces, made beforehand",
                "processes": str(data.num_workers or usable_cores()),
            },
            machine=machine(),
            has_memory=False,
        )
        return compare(comparison, rounds=request.rounds, steps=1, watch=request.watch)


def build_ours(location: str, data: DataConfig, folder: Path, megabytes: float) -> Worker:
    """bertkit's side: a new store every round."""
    base_bytes = reset_peak("cpu")
    made = 0

    def work(_: int) -> Round:
        nonlocal made
        made += 1
        started_s = time.perf_counter()
        prepare(location, folder / f"store-{made}", data, needs_pairs=False)
        return Round((time.perf_counter() - started_s,), megabytes)

    return Worker(work, pace_s=work(1).total_s, base_bytes=base_bytes)


def build_raw(source: Corpus, tokenizer: Path, megabytes: float) -> Worker:
    """The tokenizer alone, on every core, over lines that are in memory already."""
    base_bytes = reset_peak("cpu")
    engine = load_tokenizer(tokenizer).engine
    lines = [line for document in source.documents() for line in document.text.splitlines() if line.strip()]

    def work(_: int) -> Round:
        started_s = time.perf_counter()
        for first in range(0, len(lines), LINES_A_BATCH):
            engine.encode_batch_fast(lines[first : first + LINES_A_BATCH], add_special_tokens=False)
        return Round((time.perf_counter() - started_s,), megabytes)

    return Worker(work, pace_s=work(1).total_s, base_bytes=base_bytes)
