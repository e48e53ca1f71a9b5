"""The vocabulary: the same in every process, Hugging Face's form, refused when it does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertkit.data.fit import measure_fit, refuse_misfit
from bertkit.data.tokenizer import (
    CharacterCounts,
    Vocabulary,
    WordPieceOptions,
    load_tokenizer,
    save_tokenizer,
    train_wordpiece,
)
from bertkit.errors import CorpusError

WORDS = (
    "the",
    "cat",
    "sees",
    "dogs",
    "near",
    "houses",
    "running",
    "faster",
    "than",
    "foxes",
    "unhappily",
    "playing",
    "Straße",
    "café",
    "東京",
    "re-entered",
)
TEXT = " ".join(f"{a} {b}." for a in WORDS for b in WORDS)

TRAIN_AND_PRINT_HASH = """
import random, sys
from bertkit.data.tokenizer import CharacterCounts, WordPieceOptions, train_wordpiece
draw = random.Random(0)
letters = [chr(97 + i) for i in range(26)] + [chr(0x430 + i) for i in range(32)]
text = " ".join("".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(4000))
counts = CharacterCounts(); counts.add(text)
texts = [text[i:i+999] for i in range(0, len(text), 999)]
tokenizer = train_wordpiece(texts, WordPieceOptions(vocab_size=900), characters=counts.as_dict())
print(__import__("hashlib").sha256(tokenizer.to_str().encode()).hexdigest(), tokenizer.get_vocab_size())
"""

SHARED = Path(__file__).parents[3] / "shared" / "data" / "corpora"


def train(text=TEXT, **options):
    counts = CharacterCounts()
    counts.add(text)
    return train_wordpiece([text], WordPieceOptions(**{"vocab_size": 200} | options), characters=counts.as_dict())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train(), folder, WordPieceOptions())
    return folder


def test_every_process_finds_the_same_vocabulary_ties_included():
    printed = set()
    for seed in "0123":
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "TOKENIZERS_PARALLELISM": "true",
            "PYTHONPATH": str(Path.cwd()),
        }
        command = [sys.executable, "-c", TRAIN_AND_PRINT_HASH]
        printed.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(printed) == 1
    assert printed.pop().split()[1] == "900"


def test_special_tokens_come_first_and_only_they_are_special():
    tokenizer = train()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [tokenizer.id_to_token(i) for i in range(5)] == specials
    assert [str(token.content) for token in tokenizer.get_added_tokens_decoder().values()] == specials


def test_pieces_are_learned_and_put_together_again():
    tokenizer = train()
    encoding = tokenizer.encode("The Cafe, unhappily", "東京")
    assert encoding.tokens == ["[CLS]", "the", "cafe", "[UNK]", "unhappily", "[SEP]", "東", "京", "[SEP]"]
    assert encoding.type_ids == [0] * 6 + [1] * 3
    assert tokenizer.decode(tokenizer.encode("playing dogs").ids) == "playing dogs"


def test_case_accents_and_chinese_characters_follow_the_options():
    options = {"lowercase": False, "strip_accents": None, "split_chinese_chars": False}
    assert train(**options).encode("café 東京 Straße", add_special_tokens=False).tokens == ["café", "東京", "Straße"]
    assert train(lowercase=True, strip_accents=False).encode("Café", add_special_tokens=False).tokens == ["café"]


def test_a_small_vocabulary_keeps_the_most_frequent_letters_and_its_size():
    tokenizer = train("aaaa bbbb cc dd e f", vocab_size=10, min_frequency=1)
    assert tokenizer.get_vocab_size() == 10
    assert {"a", "##a", "b", "##b"} <= set(tokenizer.get_vocab())


def test_autotokenizer_opens_the_saved_folder_as_bert_with_equal_ids(saved):
    from transformers import AutoTokenizer, BertTokenizer

    opened = AutoTokenizer.from_pretrained(saved)
    assert isinstance(opened, BertTokenizer)
    assert opened.model_max_length == 512
    assert opened(TEXT)["input_ids"] == train().encode(TEXT).ids
    assert opened.decode(opened("the cat")["input_ids"]) == "[CLS] the cat [SEP]"


def test_a_saved_cased_tokenizer_stays_cased(tmp_path):
    options = WordPieceOptions(vocab_size=200, lowercase=False, strip_accents=False, split_chinese_chars=False)
    trained = train(lowercase=False, strip_accents=False, split_chinese_chars=False)
    save_tokenizer(trained, tmp_path, options)
    assert load_tokenizer(tmp_path).engine.to_str() == trained.to_str()


def test_the_vocabulary_knows_its_special_ids_and_continuations(saved):
    loaded = load_tokenizer(saved)
    vocabulary = loaded.vocabulary
    ids = (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id)
    assert ids == vocabulary.special_ids == (0, 1, 2, 3, 4)
    assert vocabulary.size == len(vocabulary.pieces) == len(loaded.pretrained)
    assert vocabulary == Vocabulary.from_tokenizer(loaded.pretrained)
    continued = [piece for piece, yes in zip(vocabulary.pieces, vocabulary.is_continuation, strict=True) if yes]
    assert continued
    assert all(piece.startswith("##") for piece in continued)
    assert np.flatnonzero(vocabulary.is_special).tolist() == [0, 1, 2, 3, 4]


def test_a_special_token_written_in_a_text_is_just_letters(saved):
    assert (
        load_tokenizer(saved).vocabulary.mask_id
        not in load_tokenizer(saved).engine.encode("[MASK]", add_special_tokens=False).ids
    )


def test_a_tokenizer_without_the_tokens_bert_needs_is_refused(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    engine = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "[PAD]": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=engine, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(tmp_path)
    with pytest.raises(CorpusError, match=r"has no \[CLS\] and no \[SEP\] and no \[MASK\]"):
        load_tokenizer(tmp_path)


def test_a_missing_tokenizer_is_said_at_once(tmp_path):
    with pytest.raises(CorpusError, match="there is no tokenizer at"):
        load_tokenizer(tmp_path / "missing")
    with pytest.raises(CorpusError, match="there is no tokenizer at"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_of_another_alphabet_is_refused_and_names_the_words_it_lost(saved):
    loaded = load_tokenizer(saved)
    fit = measure_fit(loaded.engine, ["Весь мир. Весь мир и the cat."], unk_id=loaded.vocabulary.unk_id)
    assert fit.unknown_words == (("Весь", 2), ("мир", 2), ("и", 1))
    with pytest.raises(CorpusError, match=r"unknown to the vocabulary \(most often 'Весь' \(2\)"):
        refuse_misfit(fit)


def test_a_fitting_vocabulary_says_how_it_fits(saved):
    loaded = load_tokenizer(saved)
    fit = measure_fit(loaded.engine, ["the cat sees the dogs"], unk_id=loaded.vocabulary.unk_id)
    refuse_misfit(fit)
    assert fit.chars_per_token == 21 / 5
    assert fit.sentence().startswith(
        "the vocabulary cuts text into 4.20 characters a token; 0.00% of tokens are unknown"
    )
    assert fit.frequent_words[0] == ("the", 2)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not here")
def test_a_real_chinese_vocabulary_covers_its_text():
    text = (SHARED / "chinese_wikipedia/cmrc2018_passages_simplified.txt").read_text("utf-8")
    tokenizer = train(text, vocab_size=8000)
    assert measure_fit(tokenizer, [text[:50_000]], unk_id=1).unknown_share < 0.003


def test_a_vocabulary_that_lost_a_frequent_word_is_refused_however_small_its_share(saved):
    loaded = load_tokenizer(saved)
    text = "the cat sees the dogs. " * 100 + "мир мир"
    fit = measure_fit(loaded.engine, [text], unk_id=loaded.vocabulary.unk_id)
    assert fit.unknown_share < 0.005
    with pytest.raises(CorpusError, match=r"most frequent words .* unknown to the vocabulary \('мир' \(2\)\): raise"):
        refuse_misfit(fit)
    refuse_misfit(measure_fit(loaded.engine, [text.removesuffix(" мир")], unk_id=loaded.vocabulary.unk_id))
