"""`bertkit bench predict`: from an open csv to written predictions, against transformers' pipeline."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertkit.config.schema import PretrainConfig
from bertkit.data.features import Array
from bertkit.data.store import TokenStore
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.train.setup import Precision, resolve_precision
from bertkit.workflows.assemble import build_model_config
from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.rates import DTYPES, FORMULA, Sizes, build_rates, classification_flops
from bertkit.workflows.bench.request import Request, device_type, machine, quieten_transformers, shape_said
from bertkit.workflows.bench.sides import Round, Side, Worker, reset_peak
from bertkit.workflows.bench.work import CLASSES, stock_config
from bertkit.workflows.predict import predict, prediction_precision

BATCH_SIZE = 32
WARM_UP_ROWS = 64
# Words of a row: log-normal, as those of messages and reviews are.
MEDIAN_WORDS, DEVIATION_OF_LOG, MOST_WORDS = 22, 0.7, 90
# Large enough that the class of a random model differs from row to row.
INITIALIZER_RANGE = 0.5


@dataclass(frozen=True)
class Job:
    """What both sides are given: a stock BERT with a classifier, a csv with the column text, and one to warm up on."""

    model: Path
    rows: Path
    warm_up: Path


def bench_prediction(request: Request) -> BenchResult:
    """Takes `bertkit predict` and pipeline(batch_size=32) in turn over the same csv.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    with prepared_sample(request.config, request.corpus, watch=request.watch) as (sample, folder):
        job = Job(folder / "model", folder / "rows.csv", folder / "warm-up.csv")
        shape = write_model(request.config, sample.store, job.model)
        texts = draw_texts(sample.store, rows=request.rows, seed=request.config.train.seed)
        write_rows(texts, job.rows)
        write_rows(texts[:WARM_UP_ROWS], job.warm_up)
        lengths = lengths_of(job)
        settings = {
            "model": shape_said(request.config, shape.vocab_size)["model"],
            "data": f"{len(texts):,} rows of csv, {lengths.mean():.1f} tokens on average, {lengths.max()} at the most",
        }
        comparison = _comparison(request, job, settings)
        return compare(comparison, rounds=request.rounds, steps=1, watch=request.watch, notes_of=_agreement)


def _comparison(request: Request, job: Job, settings: Mapping[str, str]) -> Comparison:
    device = device_type()
    ours = resolve_precision(prediction_precision(), device=torch.device(device))
    precisions: tuple[Precision, ...] = ("fp32",) if ours == "fp32" else ("fp32", ours)
    theirs = precisions if request.against == "transformers" else ()
    pairs = [Pair(f"equal precision, {p}", f"bertkit {p}", f"pipeline {p}") for p in theirs if p == ours]
    if theirs:
        pairs.append(Pair("default against default", f"bertkit {ours}", "pipeline fp32"))
    tokens = int(BATCH_SIZE * lengths_of(job).mean())
    return Comparison(
        subject="predict",
        unit="real tokens/s",
        sides=(
            Side(f"bertkit {ours}", partial(build_ours, job), ours),
            *(Side(f"pipeline {p}", partial(build_pipeline, job, p), p) for p in theirs),
        ),
        pairs=tuple(pairs),
        settings=settings,
        machine=machine(),
        rates=Side("matmul", partial(build_rates, precisions, request.config.model, tokens, device=device)),
        notes=(FORMULA, "from the open csv to the written one; opening the model is not counted"),
    )


def build_ours(job: Job) -> Worker:
    """bertkit's side: `bertkit predict`, whole."""
    quieten_transformers()
    device = device_type()
    base_bytes = reset_peak(device)
    tokens, flops = _work_of(job)

    def work(steps: int, rows: Path = job.rows) -> Round:
        output = job.rows.with_name("ours.csv")
        output.unlink(missing_ok=True)
        summary = predict(job.model, rows, output=output, texts=["text"])
        with output.open(encoding="utf-8", newline="") as file:
            labels = tuple(row["prediction"] for row in csv.DictReader(file))
        return Round((summary.seconds,), tokens, flops, outcome=labels)

    settings = {"precision": prediction_precision(), "padding": "sorted by length, packed"}
    return Worker(work, work(1, job.warm_up).total_s, settings, base_bytes, device)


def build_pipeline(job: Job, precision: Precision) -> Worker:
    """The stock side: the pipeline over the texts of the csv, its answers written as a csv."""
    from transformers import pipeline

    quieten_transformers()
    device = device_type()
    base_bytes = reset_peak(device)
    tokens, flops = _work_of(job)
    classify: Any = pipeline("text-classification", model=str(job.model), device=device, dtype=DTYPES[precision])

    def work(steps: int, rows: Path = job.rows) -> Round:
        started_s = time.perf_counter()
        texts = read_texts(rows)
        answers = classify(texts, batch_size=BATCH_SIZE, truncation=True)
        with job.rows.with_name("stock.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "prediction", "probability"))
            writer.writerows((text, each["label"], each["score"]) for text, each in zip(texts, answers, strict=True))
        seconds = time.perf_counter() - started_s
        return Round((seconds,), tokens, flops, outcome=tuple(each["label"] for each in answers))

    settings = {"precision": precision, "batch": f"{BATCH_SIZE}", "padding": "to the longest of the batch"}
    return Worker(work, work(1, job.warm_up).total_s, settings, base_bytes, device)


def write_model(config: PretrainConfig, store: TokenStore, folder: Path) -> Any:
    """Writes a stock BERT with a random classifier and the store's tokenizer; returns its config."""
    from transformers import BertForSequenceClassification

    shape = stock_config(build_model_config(config, store.vocabulary))
    shape.num_labels, shape.initializer_range = CLASSES, INITIALIZER_RANGE
    torch.manual_seed(config.train.seed)
    BertForSequenceClassification(shape).save_pretrained(folder)
    load_tokenizer(store.tokenizer_path).pretrained.save_pretrained(folder)
    return shape


def draw_texts(store: TokenStore, *, rows: int, seed: int) -> list[str]:
    """Texts of varied lengths: stretches of words of the store's training documents."""
    pretrained = load_tokenizer(store.tokenizer_path).pretrained
    shard = store.split("train").shards[0]
    generator = np.random.default_rng(seed)
    sizes = generator.lognormal(np.log(MEDIAN_WORDS), DEVIATION_OF_LOG, rows).clip(1, MOST_WORDS).astype(int)
    starts = generator.integers(0, max(1, len(shard.tokens) - MOST_WORDS), rows)
    stretches = [shard.tokens[start : start + size].tolist() for start, size in zip(starts, sizes, strict=True)]
    # Where a stretch begins inside a word, its first piece would keep its marks.
    return [text.replace("##", "") or "." for text in pretrained.batch_decode(stretches)]


def write_rows(texts: Sequence[str], path: Path) -> None:
    """Writes a csv with the columns id and text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text"))
        writer.writerows(enumerate(texts))


def read_texts(path: Path) -> list[str]:
    """The column text of a csv."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def lengths_of(job: Job) -> Array:
    """Tokens of every row, special ones included."""
    pieces = TextEncoder(load_tokenizer(job.model)).encode(read_texts(job.rows))
    return np.array([len(each) + 2 for each in pieces])


def _work_of(job: Job) -> tuple[int, float]:
    from transformers import AutoConfig

    sizes = Sizes(lengths_of(job))
    shape = AutoConfig.from_pretrained(job.model, trust_remote_code=False)
    return sizes.num_tokens, classification_flops(shape, sizes, num_labels=CLASSES, trains=False)


def _agreement(last: Mapping[str, Round]) -> tuple[str, ...]:
    """The share of rows for which both sides at float32 predict the same."""
    ours, theirs = last.get("bertkit fp32"), last.get("pipeline fp32")
    if ours is None or theirs is None:
        return ()
    share = np.mean([a == b for a, b in zip(ours.outcome, theirs.outcome, strict=True)])
    classes = len(set(ours.outcome))
    return (f"the two agree at fp32 on {share:.2%} of {len(ours.outcome):,} rows, of {classes} classes",)
