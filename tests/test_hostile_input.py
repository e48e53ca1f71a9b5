"""A few of the hostile inputs of tests/faults/test_fuzz.py, and by name what all of them once brought to light."""

import gzip
import json
import os
import shutil

import pytest
from hostile import refused, run
from hostile_inputs import (
    ALIAS_BOMB,
    MERGE_BOMB,
    SMALL_DATA,
    SMALL_RUN,
    Corpora,
    LabelledFiles,
    Models,
    Recipes,
    fuzz,
    parquet,
)
from toy_corpus import write_corpus
from toy_heads import write_head
from toy_tasks import write_bert, write_examples
from transformers import BertTokenizer

from bertkit.config.data import DataConfig
from bertkit.config.load import MOST_CHARS, load_config
from bertkit.config.schema import PretrainConfig
from bertkit.data import sources
from bertkit.data.corpus import ReadingNotes, ReadingOptions, open_corpus
from bertkit.data.dropped import UNSUPPORTED
from bertkit.data.shard import Shard
from bertkit.data.tokenizer import CharacterCounts, WordPieceOptions, train_wordpiece
from bertkit.errors import ConfigError, CorpusError


@pytest.mark.parametrize(("inputs", "max_examples"), [(Corpora, 25), (LabelledFiles, 25), (Recipes, 25), (Models, 5)])
def test_hostile_input_ends_in_a_result_or_one_line(inputs, max_examples, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fuzz(inputs(tmp_path), max_examples=max_examples)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALIAS_BOMB, "aliases stand for more than"),
        (MERGE_BOMB, "aliases stand for more than"),
        ("train: &t\n  seed: *t\n", "aliases stand for more than"),
        ("[" * 4000, "nested too deeply"),
        ("train: 2001-99-99\n", "month must be in"),
        ('corpus: "a\\0b"\n', "NUL"),
        ("#" * (MOST_CHARS + 1), "characters"),
    ],
)
def test_yaml_that_would_never_end_or_means_nothing_is_refused(tmp_path, text, reason):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=f"is not valid YAML: .*{reason}"):
        load_config(PretrainConfig, recipe)


def test_yaml_may_repeat_itself_by_alias(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("language: &l de\ntext_column: *l\n")
    assert load_config(DataConfig, recipe).text_column == "de"


@pytest.mark.parametrize("value", ["{" * 4000, "2001-99-99", "[" + "1," * MOST_CHARS])
def test_a_setting_that_is_no_yaml_is_refused_in_a_short_line(value):
    recipe = write_empty_recipe
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_config(PretrainConfig, recipe(), settings=[f"train={value}"])
    assert len(str(caught.value)) < 300


def write_empty_recipe():
    """A recipe that says nothing."""
    from bertkit.config.load import find_recipe

    return find_recipe("tiny")


def test_a_wrong_value_is_shown_in_part_where_it_is_long():
    with pytest.raises(ConfigError, match=r"given: 'xxx.*\.\.\.") as caught:
        load_config(PretrainConfig, write_empty_recipe(), settings=[f"train.seed={'x' * 5000}"])
    assert len(str(caught.value)) < 300


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_file_whose_name_is_no_text_is_read_and_its_documents_have_ids(tmp_path):
    text = (write_corpus(tmp_path / "seed", documents=6) / "animals.txt").read_bytes()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / os.fsdecode(b"\xff\x1b\n.txt")).write_bytes(text)
    result = run("prepare", tmp_path / "corpus", "--output-dir", tmp_path / "store", "--recipe=tiny", *SMALL_DATA)
    assert result.exit_code == 0, result.output
    ids = [name for path in (tmp_path / "store" / "shards").iterdir() for name in Shard(path).document_ids]
    assert len(ids) == 6
    assert all(name.startswith(r"\udcff\x1b\n.txt#") for name in ids)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_pipes_and_devices_in_a_corpus_are_left_out(tmp_path):
    folder = write_corpus(tmp_path / "corpus", documents=6)
    os.mkfifo(folder / "pipe.txt")
    (folder / "zero.txt").symlink_to("/dev/zero")
    corpus = open_corpus(str(folder), ReadingOptions())
    notes = ReadingNotes()
    assert len(list(corpus.documents(notes))) == 6
    assert corpus.unsupported.examples == {UNSUPPORTED: ["pipe.txt", "zero.txt"]}


def test_a_word_that_will_be_unknown_teaches_the_vocabulary_nothing():
    # The trainer's time grows with the square of a word's length: a line of 300,000 letters held it up for minutes.
    text = "the cat sat " * 50 + f"{'z' * 101} " * 50 + f"{'y' * 100} " * 50
    characters = CharacterCounts()
    characters.add(text)
    tokenizer = train_wordpiece([text], WordPieceOptions(vocab_size=200), characters=characters.as_dict())
    pieces = tokenizer.get_vocab()
    assert "yy" in "".join(pieces)
    assert "zz" not in "".join(pieces)


def test_packed_parquet_is_refused_where_it_is_too_large_to_unpack(tmp_path, monkeypatch):
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(parquet([{"text": "One. Two."}] * 3000)))
    corpus = open_corpus(str(tmp_path), ReadingOptions())
    assert list(corpus.documents())
    monkeypatch.setattr(sources, "LARGEST_UNPACKED_BYTES", 100)
    with pytest.raises(CorpusError, match="unpacks to more than"):
        list(corpus.documents())


def test_nothing_said_holds_commands_for_the_terminal(tmp_path):
    assert r"\x1b[31m" in refused("prepare", "corpus", "--recipe", "\x1b[31m", "--output-dir", tmp_path)


@pytest.mark.parametrize("name", ["[/red]", "[red]x", "%s"])
def test_a_folder_may_have_any_name(tmp_path, name):
    corpus = write_corpus(tmp_path / "corpus", documents=6)
    result = run("prepare", corpus, "--output-dir", tmp_path / name, "--recipe=tiny", *SMALL_DATA)
    assert result.exit_code == 0, result.output
    assert (tmp_path / name / "manifest.json").is_file()


@pytest.mark.parametrize(
    "command",
    [
        ("prepare", "CORPUS", "--output-dir", "x", "--recipe", "n" * 300),
        ("prepare", "n" * 300, "--output-dir", "x"),
        ("prepare", "CORPUS", "--output-dir", "n" * 300),
        ("pretrain", "n" * 5000, "--dry-run"),
        ("predict", "n" * 300, "--sentence", "x"),
        ("export", "n" * 300),
        ("check", "classify", "--train", "n" * 300),
        ("evaluate", "n" * 300),
    ],
)
def test_a_name_that_is_too_long_for_a_file_is_one_line(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    corpus = str(write_corpus(tmp_path / "corpus", documents=6))
    refused(*(corpus if argument == "CORPUS" else argument for argument in command))


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("models") / "head")


@pytest.mark.parametrize(
    "changes",
    [
        {"add_cross_attention": None},
        {"architectures": 3},
        {"architectures": [True]},
        {"num_hidden_layers": 2**31},
        {"vocab_size": 10**12},
        {"hidden_size": -16},
        {"hidden_dropout_prob": -1},
        {"id2label": {"x": "y"}},
        {"id2label": [1]},
    ],
    ids=str,
)
def test_a_config_that_no_bert_has_is_refused(head, tmp_path, changes):
    folder = tmp_path / "model"
    shutil.copytree(head, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    refused("predict", folder, "--sentence", "the cat")


def test_a_tokenizer_with_more_pieces_than_the_model_has_embeddings_is_refused(tmp_path):
    bert = write_bert(tmp_path / "bert")
    tokenizer = BertTokenizer.from_pretrained(bert)
    tokenizer.add_tokens(["dog"])
    tokenizer.save_pretrained(bert)
    train = write_examples(tmp_path, "classification")
    line = refused("finetune", "classify", "--train", train, "--from", bert, "--output-dir", tmp_path / "run")
    assert "give a model together with its own tokenizer" in line


@pytest.mark.parametrize("architecture", [1, {"num_hidden_layers": 2**31}, {"hidden_size": "x"}], ids=str)
def test_a_run_whose_architecture_is_damaged_is_refused(tmp_path, architecture):
    corpus = write_corpus(tmp_path / "corpus", documents=12, sentences=5)
    run("pretrain", corpus, "--output-dir", tmp_path / "run", *SMALL_RUN)
    pinned = json.loads((tmp_path / "run" / "pinned.json").read_text())
    assert refused_after(tmp_path / "run", pinned | {"architecture": architecture}, "evaluate", tmp_path / "run")


def refused_after(folder, pinned, *command):
    """The line with which a command refuses a run that is pinned to something else."""
    (folder / "pinned.json").write_text(json.dumps(pinned))
    return refused(*command)
