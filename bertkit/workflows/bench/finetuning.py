"""`bertkit bench finetune`: classification of pairs as long as MNLI's, against Trainer with two ways of padding."""

import tempfile
from pathlib import Path

import numpy as np

from bertkit.config.finetune import FinetuneConfig, TaskConfig
from bertkit.config.schema import PretrainConfig
from bertkit.data.features import Features, assemble_features
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import CharacterCounts, WordPieceOptions, load_tokenizer, save_tokenizer, train_wordpiece
from bertkit.errors import ConfigError
from bertkit.tasks.classification import CLASSIFICATION
from bertkit.tasks.problem import ProblemOptions
from bertkit.workflows.bench.compare import BenchResult, compare
from bertkit.workflows.bench.pretraining import training_comparison
from bertkit.workflows.bench.request import Request, shape_said
from bertkit.workflows.bench.work import CLASSES, FinetuningWork
from bertkit.workflows.task_data import load_task

# The shape where nothing else is asked for, and MNLI as run_glue takes it.
SHAPE = (
    *("model.num_hidden_layers=6", "model.hidden_size=384", "model.num_attention_heads=12"),
    *("model.intermediate_size=1536", "model.vocab_size=30522"),
)
SETTINGS = (
    *("model.hidden_dropout_prob=0.1", "model.attention_probs_dropout_prob=0.1", "optim.learning_rate=5e-5"),
    *("train.global_batch_size=32", "train.micro_batch_size=32"),
)
LENGTH = 128
# Tokens of MNLI's pairs, special ones included: mean and standard deviation; and the shortest there are.
MEAN_LENGTH, DEVIATION, SHORTEST = 39, 17, 8
EXAMPLES = 20_000
FIRST_WORD = 1000


def bench_finetuning(request: Request) -> BenchResult:
    """Takes bertkit and Trainer, padding to 128 and to the longest of a batch, in turn over the same rows.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    config = request.config
    vocab_size = config.model.vocab_size or config.data.tokenizer.vocab_size
    if config.model.max_position_embeddings < LENGTH:
        raise ConfigError(
            f"model.max_position_embeddings {config.model.max_position_embeddings} is less than the {LENGTH} tokens "
            "that fine-tuning is measured at: raise it"
        )
    features = synthetic_pairs(vocab_size, seed=config.train.seed)
    data = f"{len(features):,} pairs of random words with MNLI's lengths"
    if request.data_dir is not None:
        features = _encode_mnli(config, request, vocab_size)
        data = f"{len(features):,} rows of {request.data_dir}"
    settings = {
        **shape_said(config, vocab_size),
        "data": f"{data}: {features.lengths.mean():.1f} tokens on average, cut at {LENGTH}",
    }
    stock = {f"transformers padded to {LENGTH}": LENGTH, "transformers padded dynamically": None}
    return compare(
        training_comparison(
            "finetune", request, FinetuningWork(config, features, vocab_size), settings=settings, stock=stock
        ),
        rounds=request.rounds,
        steps=request.steps,
        watch=request.watch,
    )


def synthetic_pairs(vocab_size: int, *, seed: int, examples: int = EXAMPLES) -> Features:
    """Pairs of random words whose lengths are distributed as MNLI's: log-normal, 8 to 128 tokens."""
    generator = np.random.default_rng(seed)
    variance = np.log1p((DEVIATION / MEAN_LENGTH) ** 2)
    drawn = generator.lognormal(np.log(MEAN_LENGTH) - variance / 2, np.sqrt(variance), examples)
    lengths = np.clip(np.rint(drawn), SHORTEST, LENGTH).astype(np.int64)
    first_word = min(FIRST_WORD, vocab_size // 2)
    rows = [(generator.integers(first_word, vocab_size, length), 2 * int(length) // 3) for length in lengths]
    labels = generator.integers(0, CLASSES, examples)
    return assemble_features(rows, range(examples), feature_targets={"labels": labels})


def _encode_mnli(config: PretrainConfig, request: Request, vocab_size: int) -> Features:
    """MNLI's own rows, with a vocabulary of their words: a real one is not needed to be fast."""
    request.watch.begin("reading MNLI")
    task = TaskConfig(name="glue/mnli", data_dir=str(request.data_dir), max_train_examples=EXAMPLES)
    data = load_task(FinetuneConfig(task=task))
    counts = CharacterCounts()
    texts = [text for example in data.train for text in example.texts]
    for text in texts:
        counts.add(text)
    options = WordPieceOptions(vocab_size=vocab_size)
    with tempfile.TemporaryDirectory(prefix="bertkit-bench-") as folder:
        save_tokenizer(train_wordpiece(texts, options, characters=counts.as_dict()), Path(folder), options)
        encoder = TextEncoder(load_tokenizer(folder))
    labels = ProblemOptions(labels=tuple(data.spec.labels), max_seq_length=LENGTH)
    return CLASSIFICATION.featurize(data.train, encoder, labels, True)
