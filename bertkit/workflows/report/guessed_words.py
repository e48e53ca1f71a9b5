"""What a pre-trained model says of held-out sentences when each of their words is masked in turn, or yet to come.

Letters: R copies of one sentence, S its length with special tokens, M guessed tokens of all copies, V vocabulary.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertkit.config.schema import Direction, PretrainConfig
from bertkit.data.encode import IntArray
from bertkit.data.store import TokenStore
from bertkit.data.vocabulary import Vocabulary
from bertkit.errors import CorpusError
from bertkit.train.checkpoint import list_checkpoints
from bertkit.workflows.initial import model_class
from bertkit.workflows.pinned import open_pinned_store, open_trained
from bertkit.workflows.report.blocks import Word
from bertkit.workflows.runs import RunFolder

SENTENCES: Final = 10
LENGTHS: Final = (8, 32)
GUESSES: Final = 5
# A large model on a slow machine says less.
MOST_SECONDS: Final = 20.0


@dataclass(frozen=True)
class GuessedWords:
    """Sentences whose words a model of this direction has guessed; none of a biLM, which guesses each of them twice."""

    direction: Direction
    sentences: list[list[Word]]


def guessed_words(run: RunFolder) -> GuessedWords:
    """Some held-out sentences, the same ones for every run of a store, with what the run's last model says of them.

    Each word is masked alone; of a word of several pieces each piece, or all of them where the run masks whole words. A
    left-to-right model is given the words before instead.

    Raises:
        CheckpointError: there is no such run, or neither a checkpoint nor an export in it.
        CorpusError: its token store is gone, or has no held-out documents.
    """
    direction = run.read_config(PretrainConfig).direction
    if direction == "bilm":
        return GuessedWords(direction, [])
    config, store, model = _open(run)
    began_s, shown = time.monotonic(), []
    for ids in _sentences(store):
        shown.append(_say(model.eval(), ids, store.vocabulary, config))
        if time.monotonic() - began_s > MOST_SECONDS:
            break
    if not shown:
        raise CorpusError("no document is held out, so there is no sentence to guess: see data.heldout_share")
    return GuessedWords(direction, shown)


def _open(run: RunFolder) -> tuple[PretrainConfig, TokenStore, Any]:
    """The run's last checkpoint or, where all of them are gone, its export."""
    config = run.read_config(PretrainConfig)
    if list_checkpoints(run.checkpoints) or not run.export.is_dir():
        _, store, model, _ = open_trained(run, config)
        return config, store, model
    store = open_pinned_store(config, run)
    return config, store, model_class(config).from_pretrained(run.export, dtype=torch.float32)


def _sentences(store: TokenStore) -> Iterator[IntArray]:
    """The first sentence of fitting length of documents that are spread evenly over the first held-out shards."""
    left = SENTENCES
    for shard in store.split("heldout").shards:
        found = []
        lengths = np.diff(shard.sentence_offsets)
        fits = (lengths >= LENGTHS[0]) & (lengths <= LENGTHS[1])
        for start, end in zip(shard.document_offsets[:-1], shard.document_offsets[1:], strict=True):
            # A document begins with its title.
            places = np.flatnonzero(fits[start + 1 : end])[:1] + start + 1
            found += places.tolist()
        spread: list[int] = np.linspace(0, len(found) - 1, min(left, len(found))).round().astype(int).tolist()
        for number in spread:
            first, last = shard.sentence_offsets[found[number] : found[number] + 2]
            yield np.array(shard.tokens[first:last], dtype=np.int64)
        left -= len(spread)
        if not left:
            return


def _say(model: Any, ids: IntArray, vocabulary: Vocabulary, config: PretrainConfig) -> list[Word]:
    continues = vocabulary.is_continuation[ids]
    continues[0] = False
    if config.direction == "left-to-right":
        probabilities_MV = _next_probabilities(model, ids, vocabulary)
    else:
        whole_words = config.masking.whole_word
        probabilities_MV = _masked_probabilities(model, ids, continues, vocabulary, whole_words=whole_words)
    truth_M = torch.from_numpy(ids)
    true_M = probabilities_MV.gather(1, truth_M[:, None])[:, 0]
    rank_M = (probabilities_MV > true_M[:, None]).sum(1) + 1
    best = probabilities_MV.topk(min(GUESSES, probabilities_MV.shape[1]))
    return [
        Word(
            _letters(vocabulary.pieces[piece]),
            float(true),
            int(rank),
            [(_letters(vocabulary.pieces[guess]), float(share)) for guess, share in zip(guesses, shares, strict=True)],
            bool(goes_on),
        )
        for piece, true, rank, guesses, shares, goes_on in zip(
            ids.tolist(), true_M, rank_M, best.indices.tolist(), best.values.tolist(), continues, strict=True
        )
    ]


def _next_probabilities(model: Any, ids: IntArray, vocabulary: Vocabulary) -> Tensor:
    """[M, V] what stands at every place of the sentence, seen from the words before it."""
    rows_RS = np.pad(ids, 1, constant_values=(vocabulary.cls_id, vocabulary.sep_id))[None]
    return _probabilities(model, rows_RS, np.arange(len(ids)))


def _masked_probabilities(
    model: Any, ids: IntArray, continues: NDArray[np.bool_], vocabulary: Vocabulary, *, whole_words: bool
) -> Tensor:
    """[M, V] what stands at every place of the sentence, seen from all other words."""
    size = len(ids)
    word_S = np.cumsum(~continues) if whole_words else np.arange(size)
    masked_RS = word_S[None, :] == np.unique(word_S)[:, None]
    copies_RS = np.where(masked_RS, vocabulary.mask_id, ids[None, :])
    rows_RS = np.pad(copies_RS, ((0, 0), (1, 1)), constant_values=(vocabulary.cls_id, vocabulary.sep_id))
    # In the order of the sentence: the words of the copies follow one another.
    return _probabilities(model, rows_RS, np.flatnonzero(np.pad(masked_RS, ((0, 0), (1, 1))).reshape(-1)))


def _probabilities(model: Any, rows_RS: NDArray[np.int64], places_M: NDArray[np.int64]) -> Tensor:
    """[M, V] what the state at every place of the rows, counted through, predicts."""
    copies, length = rows_RS.shape
    packed = {
        "input_ids": torch.from_numpy(rows_RS.reshape(-1)),
        "token_type_ids": torch.zeros(copies * length, dtype=torch.int64),
        "position_ids": torch.arange(length).repeat(copies),
        "cu_seqlens": torch.arange(copies + 1, dtype=torch.int32) * length,
        "max_seqlen": length,
        "masked_positions": torch.from_numpy(places_M),
    }
    with torch.inference_mode():
        outputs = model(**packed)
    logits_MV = outputs.prediction_logits if hasattr(outputs, "prediction_logits") else outputs.logits
    return torch.softmax(logits_MV.float(), -1)


def _letters(piece: str) -> str:
    """A piece without the sign that it goes on with a word, or begins one."""
    return piece.removeprefix("##").removeprefix("▁").removeprefix("Ġ") or piece
