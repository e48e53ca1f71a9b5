"""Tagging: a label for every word of a sentence, however long (Devlin et al. 2019, section 5.3).

The first piece of a word speaks for it. Letters: E examples, W windows (one feature each), K tokens of all windows
without special ones, T tokens of all features, P words of all examples, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from bertkit.data.collate import IGNORED
from bertkit.data.features import Array, Features, assemble_features, ranges
from bertkit.data.texts import TextEncoder
from bertkit.data.windows import cut_at_words, has_max_context, window_tokens
from bertkit.errors import TaskError
from bertkit.model import BertKitForTokenClassification
from bertkit.tasks.classification import unknown_label
from bertkit.tasks.problem import Prediction, Problem, ProblemOptions, encoder_inputs
from bertkit.tasks.spec import Example
from bertkit.train.loop import Batch, LossTerm


@dataclass(frozen=True)
class _Words:
    """The pieces of all words: ids, where each word's start [P + 1], where each sentence's words start [E + 1]."""

    ids: Array
    piece_bounds: Array
    word_bounds: Array
    num_cut: int

    def pieces_of(self, sentence: int) -> Array:
        """Where the words of a sentence start, counted in its pieces, and where the last one ends."""
        bounds: Array = self.piece_bounds[self.word_bounds[sentence] : self.word_bounds[sentence + 1] + 1]
        counted: Array = bounds - bounds[0]
        return counted


def featurize_words(
    examples: Sequence[Example], encoder: TextEncoder, options: ProblemOptions, *, every_piece: bool = False
) -> Features:
    """One feature a sentence, or windows of whole words; a word counts in the one window that sees most around it.

    alignment "word": [T] the number, within its sentence, of the word that a token speaks for, and -1 for none. The
    first piece of a word speaks for it, or with `every_piece` all of those that see most.
    """
    room = options.max_seq_length - 2
    words = _encode_words(examples, encoder, room=room)
    windows = [cut_at_words(words.pieces_of(e), room=room, step=options.doc_stride) for e in range(len(examples))]
    text_of_W = np.repeat(np.arange(len(windows)), np.array([*map(len, windows)], np.int64))
    windows_W2 = np.concatenate([np.zeros((0, 2), np.int64), *windows])
    first_pieces_E = words.piece_bounds[words.word_bounds[:-1]]
    rows = [encoder.row(words.ids[start:end]) for start, end in windows_W2 + first_pieces_E[text_of_W].reshape(-1, 1)]
    features = assemble_features(rows, text_of_W, num_cut=words.num_cut)
    word_T = _speaking_pieces(features, words, text_of_W, windows_W2, every_piece=every_piece)
    aligned = np.where(word_T < 0, -1, word_T - words.word_bounds[_example_of_token(features)])
    return replace(features, alignment={"word": aligned.astype(np.int32)})


def _featurize(
    examples: Sequence[Example], encoder: TextEncoder, options: ProblemOptions, with_targets: bool
) -> Features:
    """The words of every sentence, and their labels.

    Raises:
        TaskError: a sentence has no labels, not one a word, or one that is not in `options.labels`; names the row.
    """
    features = featurize_words(examples, encoder, options)
    if not with_targets:
        return features
    first_words_E = np.cumsum([0, *(len(example.texts) for example in examples)])
    word_T = features.alignment["word"]
    word_T = np.where(word_T < 0, -1, word_T + first_words_E[_example_of_token(features)])
    labels_P = np.array([IGNORED, *_label_ids(examples, options.labels)], np.int64)
    return replace(features, token_targets={"labels": labels_P[word_T + 1]})


def _encode_words(examples: Sequence[Example], encoder: TextEncoder, *, room: int) -> _Words:
    """Every word is one piece at least, so that it can be labelled, and `room` at most, so that it fits a window."""
    entries: dict[str, int] = {}
    entry_P = np.array([entries.setdefault(word, len(entries)) for e in examples for word in e.texts], np.int64)
    encoded = encoder.encode(list(entries))
    # Nothing is left of a word of control characters.
    ids = [pieces.ids[:room] if len(pieces) else np.array([encoder.unk_id], np.int32) for pieces in encoded]
    bounds = np.cumsum([0, *map(len, ids)])
    places = ranges(bounds[entry_P], bounds[entry_P + 1])
    cut = {word for word, entry in entries.items() if len(encoded[entry]) > room}
    return _Words(
        ids=np.concatenate([np.zeros(0, np.int32), *ids])[places],
        piece_bounds=np.cumsum([0, *np.diff(bounds)[entry_P]]),
        word_bounds=np.cumsum([0, *(len(example.texts) for example in examples)]),
        num_cut=sum(not cut.isdisjoint(example.texts) for example in examples) if cut else 0,
    )


def _speaking_pieces(
    features: Features, words: _Words, text_of_W: Array, windows_W2: Array, *, every_piece: bool
) -> Array:
    """[T] the number among all words of the one that a token speaks for, -1 where it speaks for none."""
    word_of_piece = np.repeat(np.arange(len(words.piece_bounds) - 1), np.diff(words.piece_bounds))
    if not every_piece:
        word_of_piece = np.where(np.isin(np.arange(len(words.ids)), words.piece_bounds[:-1]), word_of_piece, -1)
    first_pieces_W = words.piece_bounds[words.word_bounds[text_of_W]]
    piece_K = window_tokens(windows_W2) + np.repeat(first_pieces_W, windows_W2[:, 1] - windows_W2[:, 0])
    word_T = np.full(len(features.input_ids), -1)
    inner_K = ranges(features.bounds[:-1] + 1, features.bounds[1:] - 1)
    word_T[inner_K] = np.where(has_max_context(text_of_W, windows_W2), word_of_piece[piece_K], -1)
    return word_T


def _label_ids(examples: Sequence[Example], names: Sequence[str]) -> list[int]:
    ids = {name: number for number, name in enumerate(names)}
    found = []
    for example in examples:
        if not isinstance(example.label, tuple):
            raise TaskError(unknown_label(example, None, names))
        if len(example.label) != len(example.texts):
            raise TaskError(
                f"{example.place} has {len(example.label)} labels for {len(example.texts)} words: give one a word"
            )
        for label in example.label:
            if label not in ids:
                raise TaskError(unknown_label(example, label, names))
            found.append(ids[str(label)])
    return found


def _example_of_token(features: Features) -> Array:
    of_token: Array = np.repeat(features.example_of, features.lengths)
    return of_token


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    logits_TC: Tensor = model(**encoder_inputs(batch)).logits
    return logits_TC.float()


def _loss_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    logits_TC, labels_T = _logits(model, batch), batch["labels"]
    loss = F.cross_entropy(logits_TC, labels_T, ignore_index=IGNORED, reduction="sum")
    return {"tagging": LossTerm(loss, (labels_T != IGNORED).sum(), (logits_TC.argmax(-1) == labels_T).sum())}


def _decode(
    examples: Sequence[Example], features: Features, logits_TC: Array, options: ProblemOptions
) -> list[Prediction]:
    """The best tag of every word and its probability; that of the sentence is their mean, None for no words."""
    word_T, example_T = features.alignment["word"], _example_of_token(features)
    place_P = np.flatnonzero(word_T >= 0)
    place_P = place_P[np.lexsort((word_T[place_P], example_T[place_P]))]
    logits_PC = logits_TC[place_P].astype(np.float32)
    tags_P = np.array(options.labels, dtype=object)[logits_PC.argmax(-1)]
    best_P = 1 / np.exp(logits_PC - logits_PC.max(-1, keepdims=True)).sum(-1)
    bounds = np.searchsorted(example_T[place_P], np.arange(len(examples) + 1))
    return [
        Prediction(
            example.key,
            tuple(tags_P[start:end]),
            float(best_P[start:end].mean()) if end > start else None,
            {"probabilities": best_P[start:end].astype(float).round(4).tolist()},
        )
        for example, start, end in zip(examples, bounds[:-1], bounds[1:], strict=True)
    ]


TAGGING = Problem(
    name="tagging",
    model_class=BertKitForTokenClassification,
    level="token",
    featurize=_featurize,
    loss_terms=_loss_terms,
    target_counts=lambda batch: {"tagging": int((batch["labels"] != IGNORED).sum())},
    outputs=_logits,
    decode=_decode,
)
