"""What later stages need to know of a tokenizer: its size, its special ids, and which pieces go on with a word."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash
from tokenizers import Tokenizer

from bertkit.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]

SPECIAL_TOKENS: Final = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a tokenizer in the order of their ids, and the ids of its special tokens."""

    pieces: tuple[str, ...]
    cls_id: int
    sep_id: int
    mask_id: int
    pad_id: int
    unk_id: int
    special_ids: tuple[int, ...]
    hash: str

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> "Vocabulary":
        """Describe a transformers tokenizer; raises CorpusError when it lacks a special token BERT needs."""
        ids = {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_TOKENS}
        if missing := [SPECIAL_TOKENS[name] for name, index in ids.items() if index is None]:
            raise CorpusError(
                f"the tokenizer {tokenizer.name_or_path!r} has no {' and no '.join(missing)}: "
                "BERT needs [CLS], [SEP], [MASK], [PAD] and [UNK], so take one of the BERT family, or train one"
            )
        engine = plain_text_engine(tokenizer)
        special = {index for index, token in engine.get_added_tokens_decoder().items() if token.special}
        return cls(
            pieces=_pieces_by_id(engine),
            **{f"{name}_id": index for name, index in ids.items()},
            special_ids=tuple(sorted(special | set(ids.values()))),
            hash=xxhash.xxh3_128_hexdigest(engine.to_str().encode()),
        )

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.pieces)

    @cached_property
    def is_special(self) -> BoolArray:
        """[V] True for special tokens."""
        special = np.zeros(self.size, dtype=np.bool_)
        special[list(self.special_ids)] = True
        return special

    @cached_property
    def is_continuation(self) -> BoolArray:
        """[V] True where a piece goes on with a word that an earlier piece began."""
        continues = np.array([piece.startswith("##") for piece in self.pieces])
        if not continues.any() and (start := _word_start_marker(self.pieces)):
            continues = ~np.array([piece.startswith(start) for piece in self.pieces])
        return np.asarray(continues & ~self.is_special)


def plain_text_engine(tokenizer: "PreTrainedTokenizerBase") -> Tokenizer:
    """A copy of the Rust tokenizer inside, set to encode text as it stands."""
    if not tokenizer.is_fast:
        raise CorpusError(f"{type(tokenizer).__name__} has no tokenizer.json: save it in the fast form first")
    return as_plain_text_engine(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))


def as_plain_text_engine(engine: Tokenizer) -> Tokenizer:
    """Switch off cutting and padding, and the special tokens: a '[MASK]' in a text is just letters."""
    engine.no_truncation()
    engine.no_padding()
    engine.encode_special_tokens = True
    return engine


def _pieces_by_id(engine: Tokenizer) -> tuple[str, ...]:
    by_id = {index: piece for piece, index in engine.get_vocab(with_added_tokens=True).items()}
    return tuple(by_id.get(index, "") for index in range(max(by_id) + 1))


def _word_start_marker(pieces: Iterable[str]) -> str | None:
    """The character with which byte-level and SentencePiece vocabularies mark the start of a word."""
    starts = Counter(piece[0] for piece in pieces if len(piece) > 1)
    return next((marker for marker in "▁Ġ" if starts[marker]), None)
