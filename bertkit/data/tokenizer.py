"""WordPiece: train it on a corpus, the same in every process, or take an existing one, in Hugging Face's form."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertkit.data.vocabulary import SPECIAL_TOKENS, as_plain_text_engine, plain_text_engine
from bertkit.data.vocabulary import Vocabulary as Vocabulary
from bertkit.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

LONGEST_INPUT: Final = 512
LONGEST_WORD_CHARS: Final = 100

# An alphabet of this many characters is kept whole, as the `tokenizers` package does; of a larger one, the characters
# that make up 99.95 % of the text (the coverage SentencePiece advises for Chinese and Japanese).
SMALL_ALPHABET: Final = 1000
CHARACTER_COVERAGE: Final = 0.9995

REPEATED_CHARS: Final = 1 << 16


@dataclass(frozen=True)
class WordPieceOptions:
    """How text is normalised and how large the vocabulary is; the fields are those of `data.tokenizer` in a recipe."""

    vocab_size: int = 30522
    lowercase: bool = True
    strip_accents: bool | None = None
    split_chinese_chars: bool = True
    min_frequency: int = 2


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer in Hugging Face's form, the engine inside it, and its vocabulary."""

    pretrained: "PreTrainedTokenizerBase"
    engine: Tokenizer
    vocabulary: Vocabulary


class CharacterCounts:
    """How often every character occurs in a text, counted as it is read."""

    def __init__(self) -> None:
        self._counts = np.zeros(0x110000, dtype=np.int64)
        self._waiting: list[str] = []
        self._waiting_chars = 0

    def add(self, text: str) -> None:
        """Count the characters of one text."""
        self._waiting.append(text)
        self._waiting_chars += len(text)
        if self._waiting_chars >= 1 << 20:
            self._flush()

    def merge(self, codes: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> None:
        """Add what was counted elsewhere: code points, each once, and how often each occurred."""
        self._counts[codes] += counts

    def as_dict(self) -> dict[str, int]:
        """Counts by character, in the order of code points."""
        self._flush()
        return {chr(code): int(self._counts[code]) for code in np.flatnonzero(self._counts)}

    def _flush(self) -> None:
        codes = np.frombuffer("".join(self._waiting).encode("utf-32-le"), dtype=np.uint32)
        self._counts += np.bincount(codes, minlength=len(self._counts))
        self._waiting, self._waiting_chars = [], 0


def train_wordpiece(texts: Iterable[str], options: WordPieceOptions, *, characters: dict[str, int]) -> Tokenizer:
    """Train a WordPiece vocabulary; `characters` counts those of the text (CharacterCounts).

    Every process finds the same vocabulary. The trainer alone does not: it numbers "##x" pieces as they come out of a
    hash map, and breaks ties between merges by those numbers. So it is given the alphabet and its continuations as
    special tokens, whose ids are fixed; the tokenizer that comes back knows the five real ones only.
    """
    return _train(_untrained(options), texts, options, characters=characters)


def train_from_counts(
    words: Iterable[tuple[str, int]], options: WordPieceOptions, *, characters: dict[str, int]
) -> Tokenizer:
    """The vocabulary `train_wordpiece` finds in a text, from how often each of its words occurs (WordCounts)."""
    # The trainer takes texts only; these words are normalised and cut already, and white space keeps them apart.
    counter = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk"]))
    counter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _train(counter, _repeated(words), options, characters=characters)


def word_splitter(options: WordPieceOptions) -> Callable[[str], list[str]]:
    """Text to the words that training counts: normalised, and cut at white space and punctuation."""
    tokenizer = _untrained(options)

    def split(text: str) -> list[str]:
        return [word for word, _ in _pre_tokenize(tokenizer, _normalize(tokenizer, text))]

    return split


def _repeated(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Every word as often as it was counted, in texts of bounded length."""
    for word, count in words:
        most = max(REPEATED_CHARS // (len(word) + 1), 1)
        for done in range(0, count, most):
            yield f"{word} " * min(most, count - done)


def _train(
    counter: Tokenizer, texts: Iterable[str], options: WordPieceOptions, *, characters: dict[str, int]
) -> Tokenizer:
    """A tokenizer of the pieces found in `texts`, whose words `counter` tells apart."""
    tokenizer = _untrained(options)
    letters = _choose_alphabet(tokenizer, characters, options)
    continuations = [f"##{letter}" for letter in letters if _continues_words(tokenizer, letter)]
    leading = [*SPECIAL_TOKENS.values(), *letters, *continuations]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(options.vocab_size, len(leading)),
        min_frequency=options.min_frequency,
        special_tokens=leading,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    counter.train_from_iterator(texts, trainer)
    learned = counter.get_vocab()
    logger.info("the vocabulary has %s pieces, %s of them single characters", f"{len(learned):,}", f"{len(letters):,}")
    return _with_vocabulary(learned, options)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, options: WordPieceOptions) -> None:
    """Write a trained tokenizer so that `AutoTokenizer.from_pretrained(folder)` opens it as a BERT tokenizer."""
    from transformers import BertTokenizer

    BertTokenizer(
        vocab=tokenizer.get_vocab(),
        do_lower_case=options.lowercase,
        strip_accents=options.strip_accents,
        tokenize_chinese_chars=options.split_chinese_chars,
        model_max_length=LONGEST_INPUT,
    ).save_pretrained(folder)


def load_tokenizer(path_or_id: str | os.PathLike[str]) -> LoadedTokenizer:
    """Open an existing tokenizer: a folder or a Hub id.

    Raises CorpusError when there is none, or when it lacks a special token BERT needs.
    """
    from transformers import AutoTokenizer

    try:
        pretrained = AutoTokenizer.from_pretrained(os.fspath(path_or_id), trust_remote_code=False)
    except Exception as error:
        # The Rust side raises bare Exceptions for a damaged tokenizer.json, transformers a dozen kinds.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(
            f"there is no tokenizer at {os.fspath(path_or_id)!r} ({reason}): "
            "name a folder that holds tokenizer.json or vocab.txt"
        ) from error
    return LoadedTokenizer(pretrained, plain_text_engine(pretrained), Vocabulary.from_tokenizer(pretrained))


def _untrained(options: WordPieceOptions) -> Tokenizer:
    """What cuts text into the words to train on; words that will be [UNK] whatever is learned are left out.

    The trainer's time grows with the square of a word's length: one of 300,000 letters took half a minute.
    """
    tokenizer = _assemble(models.WordPiece(unk_token=SPECIAL_TOKENS["unk"]), options)
    too_long = pre_tokenizers.Split(Regex(f"(?m).{{{LONGEST_WORD_CHARS + 1},}}"), "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, too_long])
    return tokenizer


def _with_vocabulary(learned: dict[str, int], options: WordPieceOptions) -> Tokenizer:
    """A tokenizer of these pieces whose special tokens are the real five only."""
    model = models.WordPiece(learned, unk_token=SPECIAL_TOKENS["unk"], max_input_chars_per_word=LONGEST_WORD_CHARS)
    tokenizer = _assemble(model, options)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, learned[token]) for token in (SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"])],
    )
    return as_plain_text_engine(tokenizer)


def _assemble(model: models.WordPiece, options: WordPieceOptions) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=options.lowercase,
        strip_accents=options.strip_accents,
        handle_chinese_chars=options.split_chinese_chars,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _choose_alphabet(tokenizer: Tokenizer, characters: dict[str, int], options: WordPieceOptions) -> list[str]:
    """The characters of the vocabulary in the order of code points; of equally frequent ones the lower one stays."""
    counts: dict[str, int] = {}
    for raw, count in characters.items():
        for letter in str(_normalize(tokenizer, raw)):
            if not letter.isspace():
                counts[letter] = counts.get(letter, 0) + count
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))
    ranked = [letter for letter in ranked if counts[letter] >= options.min_frequency]
    running = np.cumsum([counts[letter] for letter in ranked])
    covering = int(np.searchsorted(running, CHARACTER_COVERAGE * sum(counts.values()))) + 1
    # Half of the room: every letter may need a second entry, "##" and itself.
    room = max((options.vocab_size - len(SPECIAL_TOKENS)) // 2, 1)
    by_script = max(covering, SMALL_ALPHABET)
    return sorted(ranked[: min(by_script, _affordable(tokenizer, ranked, room=2 * room))])


def _affordable(tokenizer: Tokenizer, ranked: list[str], *, room: int) -> int:
    """How many of the letters fit into `room` entries, each with its continuation where it has one."""
    costs = np.cumsum([2 if _continues_words(tokenizer, letter) else 1 for letter in ranked])
    return int(np.searchsorted(costs, room, side="right"))


def _continues_words(tokenizer: Tokenizer, letter: str) -> bool:
    """Whether a letter can stand inside a word; punctuation, and Chinese when split, cannot."""
    return len(_pre_tokenize(tokenizer, _normalize(tokenizer, f"a{letter}"))) == 1


def _normalize(tokenizer: Tokenizer, text: str) -> Any:
    return tokenizer.normalizer.normalize_str(text)


def _pre_tokenize(tokenizer: Tokenizer, text: str) -> Any:
    return tokenizer.pre_tokenizer.pre_tokenize_str(text)
