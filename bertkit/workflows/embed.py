"""Vectors of texts or words from an encoder as it is: the feature-based use of BERT (Devlin et al. 2019, 5.3)."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor

import bertkit.model
from bertkit.data.features import Array, Features, batches_by_length, collate_features
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import ConfigError, TaskError, refused_as
from bertkit.model import BertKitModel
from bertkit.model.families import class_for
from bertkit.model.layer_mix import LAYER_CHOICES, LayerChoice, mix_layers, width_of
from bertkit.model.reader import reader_settings
from bertkit.tasks.columns import Columns
from bertkit.tasks.problem import ProblemOptions, encoder_inputs
from bertkit.tasks.problems import PROBLEMS
from bertkit.tasks.spec import Example
from bertkit.tasks.table import BrokenRow
from bertkit.tasks.tagging import featurize_words
from bertkit.train.setup import build_accelerator
from bertkit.workflows.infer import TOKENS_A_BATCH
from bertkit.workflows.predict import prediction_precision
from bertkit.workflows.prediction_files import kind_of_output, written_aside
from bertkit.workflows.prediction_rows import STANDARD_INPUT, Row, Wanted, kind_of_input, read_rows, require_files
from bertkit.workflows.runs import newest_run
from bertkit.workflows.source import bert_folder, direction_of, longest_input, open_bert_config, require_room
from bertkit.workflows.vector_file import VectorFile
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

Level = Literal["sentence", "word"]
Pooling = Literal["cls", "mean", "max", "first"]
POOLINGS: Final[dict[Level, tuple[Pooling, ...]]] = {
    "sentence": ("mean", "cls", "max"),
    "word": ("first", "mean", "max"),
}
ROWS_AT_ONCE: Final = 1024
# Of the vectors that are in memory at once.
BYTES_AT_ONCE: Final = 256_000_000


@dataclass(frozen=True)
class EmbedOptions:
    """Which layers, for what, and how the vectors of several tokens become one; half: 16 bits a number on disk."""

    layers: LayerChoice = "last"
    level: Level = "sentence"
    pooling: Pooling | None = None
    half: bool = False

    def __post_init__(self) -> None:
        if self.layers not in LAYER_CHOICES:
            raise ConfigError(f"there are no layers '{self.layers}': give one of {', '.join(LAYER_CHOICES)}")
        if self.level not in POOLINGS:
            raise ConfigError(f"there is no level '{self.level}': give {' or '.join(POOLINGS)}")
        if self.how not in POOLINGS[self.level]:
            known = ", ".join(POOLINGS[self.level])
            raise ConfigError(f"a {self.level} has no pooling '{self.how}': give one of {known}")

    @property
    def how(self) -> Pooling:
        """The pooling, that of the level where none was asked for."""
        return self.pooling or POOLINGS[self.level][0]


@dataclass(frozen=True)
class EmbedSummary:
    """What was written: rows, those of them that could not be used, the length of a vector, and how long it took."""

    output: Path
    rows: int
    bad_rows: int
    width: int
    seconds: float


def embed(
    source: str | Path | None,
    inputs: Sequence[str | Path],
    *,
    output: Path,
    texts: Sequence[str] = (),
    options: EmbedOptions | None = None,
    watch: Watcher | None = None,
) -> EmbedSummary:
    """Writes the rows of `inputs` to a Parquet file with their vectors added, in order, however many there are.

    source: a run of any kind, a BERT's folder or a Hub id; the newest run if left out. inputs: files, "-" for standard
    input. texts: columns of the text, guessed if left out. A sentence gets `embedding` [D], which for `mean` is what
    sentence-transformers makes of the same model; words get `tokens` and `embeddings`, words x [D], whatever the
    sentence's length. A row that cannot be used is kept, with an `error`.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    options = options or EmbedOptions()
    started_s = time.monotonic()
    paths = [str(path) for path in inputs] or [STANDARD_INPUT]
    _require_parquet(output)
    require_files(paths)
    problem: Any = "tagging" if options.level == "word" else "classification"
    # Whoever has columns of tags has a model of tags; for vectors a .txt is what it is everywhere else.
    wanted = Wanted(problem, Columns(texts=tuple(texts)), is_asked=bool(texts), sentences_in_txt=True)
    kinds = [kind_of_input(path, wanted) for path in paths]
    embedder = _open(str(source or newest_run().path), options)
    is_word = options.level == "word"
    with (
        written_aside(output, binary=True) as place,
        VectorFile(place, paths, kinds, width=embedder.width, of_words=is_word, half=options.half) as file,
    ):
        tally = _write_all(read_rows(paths, (), wanted), embedder, file, watch or Unwatched())
    if tally.cut:
        logger.info("%s", f"{tally.cut:,} of {tally.rows:,} rows are cut at {embedder.features.max_seq_length} tokens")
    if tally.bad:
        what = f"{tally.bad:,} of {tally.rows:,} rows have no vector, and an error in column 'error' instead"
        logger.warning("%s", f"{what}: {tally.first_bad}")
    return EmbedSummary(output, tally.rows, tally.bad, embedder.width, time.monotonic() - started_s)


@dataclass(frozen=True)
class _Embedder:
    """An encoder, and all that turns examples into vectors; `mix` makes one state of those of all layers."""

    model: torch.nn.Module
    mix: Callable[[Sequence[Tensor]], Tensor]
    encoder: TextEncoder
    accelerator: Accelerator
    features: ProblemOptions
    options: EmbedOptions
    width: int

    def featurize(self, examples: Sequence[Example]) -> tuple[Features, Array, Array]:
        """Features; [T] which vector each token goes into, -1 for none; [E + 1] where each example's vectors start."""
        if self.options.level == "sentence":
            features = PROBLEMS["classification"].featurize(examples, self.encoder, self.features, False)
            vector_T = np.repeat(features.example_of, features.lengths)
            if self.options.how == "cls":
                is_first_T = np.isin(np.arange(len(vector_T)), features.bounds[:-1])
                vector_T = np.where(is_first_T, vector_T, -1)
            return features, vector_T, np.arange(len(examples) + 1)
        features = featurize_words(examples, self.encoder, self.features, every_piece=self.options.how != "first")
        bounds = np.cumsum([0, *(len(example.texts) for example in examples)])
        word_T, first_T = features.alignment["word"], bounds[np.repeat(features.example_of, features.lengths)]
        return features, np.where(word_T < 0, -1, word_T + first_T), bounds

    @torch.inference_mode()
    def embed(self, examples: Sequence[Example]) -> tuple[list[Array], int]:
        """The vectors of every example, [1 or words, D], and how many examples were cut."""
        features, vector_T, bounds = self.featurize(examples)
        pool = _Pool(int(bounds[-1]), self.width, is_max=self.options.how == "max")
        for chosen in batches_by_length(features, max_tokens=TOKENS_A_BATCH):
            batch = send_to_device(collate_features(features, chosen), self.accelerator.device)
            states = self.model(**encoder_inputs(batch), output_hidden_states=True).hidden_states
            mixed_TD = self.mix(states).float().cpu().numpy()
            of_batch = vector_T[features.tokens_of(chosen)]
            pool.add(of_batch[of_batch >= 0], mixed_TD[of_batch >= 0])
        vectors = pool.vectors()
        return [vectors[start:end] for start, end in pairwise(bounds)], features.num_cut


class _Pool:
    """Adds up, or takes the largest of, the states that go into each vector, as they come."""

    def __init__(self, num_vectors: int, width: int, *, is_max: bool) -> None:
        self._is_max = is_max
        self._values = np.full((num_vectors, width), -np.inf if is_max else 0.0, np.float32)
        self._counts = np.zeros((num_vectors, 1), np.float32)

    def add(self, vector_P: Array, states_PD: Array) -> None:
        """Takes in the states of P tokens; those of one vector mostly stand side by side."""
        if not len(vector_P):
            return
        starts = np.flatnonzero(np.diff(vector_P, prepend=-1))
        operation: Any = np.maximum if self._is_max else np.add
        operation.at(self._values, vector_P[starts], operation.reduceat(states_PD, starts))
        np.add.at(self._counts, vector_P[starts], np.diff(starts, append=len(vector_P))[:, None].astype(np.float32))

    def vectors(self) -> Array:
        """[vectors, D]"""
        found: Array = self._values if self._is_max else self._values / self._counts
        return found


def _open(source: str, options: EmbedOptions) -> _Embedder:
    config = open_bert_config(source)
    _require_first_to_have_seen(config, source, options)
    folder = bert_folder(source)
    accelerator = build_accelerator(prediction_precision())
    with refused_as(ConfigError, f"{source} cannot be opened as a BERT"):
        model_class: Any = class_for(config, BertKitModel)
        model: Any = model_class.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
    try:
        mix_layers([torch.zeros(1, 1)] * (config.num_hidden_layers + 1), options.layers)
    except ValueError as error:
        raise ConfigError(f"--layers {error}: choose others") from error
    tokenizer = load_tokenizer(folder)
    require_room(config, tokenizer.vocabulary, source)
    longest = longest_input(config, tokenizer)
    mix = _learned_mix(folder, config) if options.layers == "weighted-all" else None
    if options.layers == "weighted-all" and mix is None:
        logger.info("the layers get equal shares: learned ones are part of a model, see finetune --feature-based")
    prepared = accelerator.prepare_model(model.to(accelerator.device).eval(), evaluation_mode=True)
    return _Embedder(
        prepared,
        mix.to(accelerator.device) if mix else partial(mix_layers, choice=options.layers),
        TextEncoder(tokenizer),
        accelerator,
        ProblemOptions(max_seq_length=longest, doc_stride=longest // 2),
        options,
        width_of(options.layers, config.hidden_size),
    )


def _learned_mix(folder: str, config: Any) -> torch.nn.Module | None:
    """How much of each layer a BiLSTM above the encoder has learned to read, and on what scale; None if it has not."""
    bilstm = getattr(config, "bilstm", None)
    if bilstm is None or reader_settings(bilstm)["layers"] != "weighted-all":
        return None
    with refused_as(ConfigError, f"{folder} cannot be opened with its BiLSTM"):
        model: Any = getattr(bertkit.model, config.architectures[0]).from_pretrained(folder, dtype=torch.float32)
    mix: torch.nn.Module = model.reader.mix
    return mix


def _require_first_to_have_seen(config: Any, source: str, options: EmbedOptions) -> None:
    if options.how == "cls" and direction_of(config) == "left-to-right":
        raise ConfigError(
            f"--pooling cls takes the first token, and that of {source}, read from left to right, has seen no other: "
            "give mean or max"
        )


def _require_parquet(output: Path) -> None:
    if output.suffix.lower() != ".parquet":
        raise ConfigError(f"--output {output}: vectors are written as Parquet: give a name that ends in .parquet")
    kind_of_output(output)


@dataclass
class _Tally:
    """Rows so far, those that could not be used, the first of them, and those that were cut."""

    rows: int = 0
    bad: int = 0
    cut: int = 0
    first_bad: BrokenRow | None = None

    def add(self, rows: Sequence[Row], num_cut: int) -> None:
        bad = [row for row in rows if isinstance(row, BrokenRow)]
        self.rows += len(rows)
        self.bad += len(bad)
        self.cut += num_cut
        self.first_bad = self.first_bad or next(iter(bad), None)


def _write_all(rows: Iterator[Row], embedder: _Embedder, file: VectorFile, watch: Watcher) -> _Tally:
    tally = _Tally()
    for chunk in _chunks(rows, embedder):
        vectors, num_cut = embedder.embed([row for row in chunk if isinstance(row, Example)])
        file.write(chunk, iter(vectors))
        tally.add(chunk, num_cut)
        watch.work("embedding", tally.rows, None)
    if not tally.rows:
        raise TaskError("there is no row to embed: give a file with one row a text")
    return tally


def _chunks(rows: Iterator[Row], embedder: _Embedder) -> Iterator[list[Row]]:
    """Rows whose vectors are few enough to be in memory at once."""
    most = BYTES_AT_ONCE // (4 * embedder.width)
    chunk: list[Row] = []
    num_vectors = 0
    for row in rows:
        wanted = len(row.texts) if isinstance(row, Example) and embedder.options.level == "word" else 1
        if chunk and (len(chunk) == ROWS_AT_ONCE or num_vectors + wanted > most):
            yield chunk
            chunk, num_vectors = [], 0
        chunk.append(row)
        num_vectors += wanted
    if chunk:
        yield chunk
