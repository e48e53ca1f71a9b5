"""Does a vocabulary fit its corpus? Measured on a sample, said to the user, and refused when it does not."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from bertkit.errors import CorpusError

MOST_UNKNOWN_SHARE: Final = 0.05
WORDS_SHOWN: Final = 10
REMEDY: Final = (
    "raise data.tokenizer.vocab_size, lower data.tokenizer.min_frequency, "
    "or give a tokenizer of the corpus' language and casing"
)


@dataclass(frozen=True)
class VocabularyFit:
    """How well a vocabulary fits a text: shares between 0 and 1, words with how often they occurred.

    `lost_words` are those of the frequent ones that the vocabulary cannot write.
    """

    unknown_share: float
    chars_per_token: float
    frequent_words: tuple[tuple[str, int], ...]
    unknown_words: tuple[tuple[str, int], ...]
    lost_words: tuple[tuple[str, int], ...] = ()

    def sentence(self) -> str:
        """What a user reads about it."""
        lost = f" (mostly {_listed(self.unknown_words)})" if self.unknown_words else ""
        return (
            f"the vocabulary cuts text into {self.chars_per_token:.2f} characters a token; {self.unknown_share:.2%} of "
            f"tokens are unknown{lost}; the most frequent words are {_listed(self.frequent_words)}"
        )


def measure_fit(tokenizer: Tokenizer, texts: Iterable[str], *, unk_id: int) -> VocabularyFit:
    """Encode a sample of the corpus and count what the vocabulary does not know."""
    chars = tokens = 0
    words: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        chars += len(text)
        tokens += len(encoding.ids)
        words.update(word for word in _words(tokenizer, text) if any(map(str.isalpha, word)))
        unknown.update(
            text[start:end]
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if index == unk_id
        )
    frequent = _most_common(words)
    return VocabularyFit(
        unknown_share=unknown.total() / max(tokens, 1),
        chars_per_token=chars / max(tokens, 1),
        frequent_words=frequent,
        unknown_words=_most_common(unknown),
        # A word that occurs once is among the frequent ones of tiny samples only.
        lost_words=tuple((w, n) for w, n in frequent if n > 1 and unk_id in _encode(tokenizer, w)),
    )


def refuse_misfit(fit: VocabularyFit) -> None:
    """Raise CorpusError when frequent words are lost: another language, alphabet or casing, or far too few pieces."""
    if fit.unknown_share > MOST_UNKNOWN_SHARE:
        raise CorpusError(
            f"{fit.unknown_share:.1%} of the corpus' tokens are unknown to the vocabulary "
            f"(most often {_listed(fit.unknown_words)}): {REMEDY}"
        )
    if fit.lost_words:
        raise CorpusError(
            f"of the {WORDS_SHOWN} most frequent words of the corpus, some are unknown to the vocabulary "
            f"({_listed(fit.lost_words)}): {REMEDY}"
        )


def _words(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    yield from (word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))


def _encode(tokenizer: Tokenizer, word: str) -> list[int]:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False).ids
    return ids


def _most_common(words: Counter[str]) -> tuple[tuple[str, int], ...]:
    """The most frequent first, ties in alphabetical order: the report must not depend on how it was counted."""
    return tuple(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS_SHOWN])


def _listed(words: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{word!r} ({count:,})" for word, count in words)
