"""The work on one shard: raw documents in, token ids out. Pure, so that every machine gives the same bytes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal, cast

import numpy as np
import xxhash
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from bertkit.data.corpus import RawDocument
from bertkit.data.sentences import is_cjk
from bertkit.data.vocabulary import as_plain_text_engine
from bertkit.errors import CorpusError

IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]
TokenArray = np.ndarray[tuple[int], np.dtype[Any]]
BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]
# Text to (word, begin, end), in characters.
Segmenter = Callable[[str], Iterable[tuple[str, int, int]]]

# English has about 6 characters a word with its space, Chinese has no spaces and so "words" that never come back.
LONGEST_MEAN_WORD: Final = 15
REMEMBERED_WORDS: Final = 1 << 19


@dataclass(frozen=True)
class EncodingOptions:
    """What encoding depends on besides the text."""

    tokenizer_file: str
    tokenizer_hash: str
    vocab_size: int
    language: str = "en"
    word_segmenter: Literal["none", "jieba"] = "none"


@dataclass(frozen=True)
class EncodedDocuments:
    """Token ids of documents one after the other: sentence s of them is the next `sentence_lengths[s]` of `tokens`."""

    ids: tuple[str, ...]
    tokens: TokenArray
    sentence_lengths: IntArray
    document_lengths: IntArray
    word_starts: BoolArray | None
    empty_sentences: int
    empty_documents: int


def work_digest(documents: Sequence[RawDocument], options: EncodingOptions) -> str:
    """Hash of everything the encoding of these documents depends on."""
    hasher = xxhash.xxh3_128()
    hasher.update(repr((options.tokenizer_hash, options.language, options.word_segmenter)).encode())
    for document in documents:
        hasher.update(repr((document.id, document.layout, len(document.text))).encode())
        hasher.update(document.text.encode())
    return hasher.hexdigest()


def encode_documents(documents: Sequence[RawDocument], options: EncodingOptions) -> EncodedDocuments:
    """Find the sentences of documents and their token ids; what has no token is left out and counted."""
    split = [document.split(options.language) for document in documents]
    sentences = [sentence for document in split for sentence in document.sentences]
    encoder = _encoder(options.tokenizer_file, options.tokenizer_hash, options.vocab_size)
    tokens, lengths = encoder.encode(sentences)
    word_starts = encoder.word_starts(sentences, find_segmenter()) if options.word_segmenter == "jieba" else None
    in_document = np.array([len(document.sentences) for document in split], dtype=np.int64)
    owner = np.repeat(np.arange(len(split)), in_document)
    kept_in_document = np.bincount(owner[lengths > 0], minlength=len(split))
    return EncodedDocuments(
        ids=tuple(document.id for document, kept in zip(split, kept_in_document, strict=True) if kept),
        tokens=tokens,
        sentence_lengths=lengths[lengths > 0],
        document_lengths=kept_in_document[kept_in_document > 0],
        word_starts=word_starts,
        empty_sentences=int(np.sum(lengths == 0)),
        empty_documents=int(np.sum(kept_in_document == 0)),
    )


class SentenceEncoder:
    """Sentences to token ids, remembering the words it has seen: most words of a text have come before."""

    def __init__(self, engine: Tokenizer, *, id_dtype: np.dtype[Any]) -> None:
        self._engine = as_plain_text_engine(engine)
        self._id_dtype = id_dtype
        self._remembers = _cuts_at_spaces(engine)
        self._number_of_word: dict[str, int] = {}
        self._word_tokens: TokenArray = np.empty(0, dtype=id_dtype)
        self._word_offsets: IntArray = np.zeros(1, dtype=np.int64)

    def encode(self, sentences: Sequence[str]) -> tuple[TokenArray, IntArray]:
        """All token ids one after the other, and how many there are of each sentence; no special tokens are added.

        Sentences have single spaces only, between words.
        """
        words = " ".join(sentences).split(" ") if self._remembers and sentences else []
        if words and sum(map(len, sentences)) <= LONGEST_MEAN_WORD * len(words):
            return self._recall(words, words_of=np.array([sentence.count(" ") + 1 for sentence in sentences]))
        return self._encode_all(sentences)

    def _recall(self, words: Sequence[str], *, words_of: IntArray) -> tuple[TokenArray, IntArray]:
        self._learn(words)
        numbers = np.fromiter(map(self._number_of_word.__getitem__, words), dtype=np.int64, count=len(words))
        starts, lengths = self._word_offsets[numbers], np.diff(self._word_offsets)[numbers]
        ends = np.cumsum(lengths)
        # Token t of word w lies at starts[w] + t; shifted by where the word's tokens begin in the result.
        positions = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
        ends_of_sentences = ends[np.cumsum(words_of) - 1]
        return self._word_tokens[positions], np.diff(ends_of_sentences, prepend=0)

    def _learn(self, words: Sequence[str]) -> None:
        if len(self._number_of_word) > REMEMBERED_WORDS:
            self._number_of_word.clear()
            self._word_tokens, self._word_offsets = self._word_tokens[:0], self._word_offsets[:1]
        new = list(set(words).difference(self._number_of_word))
        tokens, lengths = self._encode_all(new)
        first = len(self._number_of_word)
        self._number_of_word.update(zip(new, range(first, first + len(new)), strict=True))
        self._word_tokens = np.concatenate([self._word_tokens, tokens])
        self._word_offsets = np.concatenate([self._word_offsets, self._word_offsets[-1] + np.cumsum(lengths)])

    def _encode_all(self, texts: Sequence[str]) -> tuple[TokenArray, IntArray]:
        ids = [encoding.ids for encoding in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        return np.fromiter(chain.from_iterable(ids), dtype=self._id_dtype, count=int(lengths.sum())), lengths

    def word_starts(self, sentences: Sequence[str], segment: Segmenter) -> BoolArray:
        """True for tokens that begin a word, where Chinese characters form the words that `segment` finds."""
        starts: list[bool] = []
        encodings = self._engine.encode_batch(list(sentences), add_special_tokens=False)
        for sentence, encoding in zip(sentences, encodings, strict=True):
            inside = {offset for _, begin, end in segment(sentence) for offset in range(begin + 1, end)}
            for piece, (begin, _) in zip(encoding.tokens, encoding.offsets, strict=True):
                starts.append(not (piece.startswith("##") or (begin in inside and is_cjk(sentence[begin]))))
        return np.array(starts, dtype=np.bool_)


@lru_cache(maxsize=2)
def _encoder(tokenizer_file: str, tokenizer_hash: str, vocab_size: int) -> SentenceEncoder:
    # The hash is here to be remembered by: another tokenizer may come to lie at the same path.
    engine = Tokenizer.from_file(tokenizer_file)
    return SentenceEncoder(engine, id_dtype=np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32))


def _cuts_at_spaces(engine: Tokenizer) -> bool:
    """Whether a sentence's ids are those of its words between spaces, one after the other."""
    return (
        isinstance(engine.normalizer, normalizers.BertNormalizer)
        and isinstance(engine.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and all(token.special for token in engine.get_added_tokens_decoder().values())
    )


def find_segmenter() -> Segmenter:
    """jieba's dictionary segmenter, in Rust; raises CorpusError when it is not installed."""
    try:
        import rjieba
    except ImportError as error:
        raise CorpusError(
            "data.word_segmenter=jieba needs the rjieba package: pip install rjieba, or set it to none"
        ) from error
    return cast("Segmenter", rjieba.tokenize)
