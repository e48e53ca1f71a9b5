"""The input representation of the paper's figure 2, as pre-training would be given it."""

import json

import numpy as np
import pytest
from toy_heads import write_head
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import ConfigError
from bertkit.workflows.explain import explain


def shown(*arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


@pytest.fixture(scope="module")
def source(store):
    return str(store.tokenizer_path)


def test_a_pair_has_two_segments_and_counted_positions(source):
    tokens = explain("The cat sees the dog.", "The dog likes it.", source=source).tokens
    assert [token.position for token in tokens] == list(range(len(tokens)))
    pieces = [token.piece for token in tokens]
    first_end = pieces.index("[SEP]")
    assert pieces[0] == "[CLS]"
    assert pieces[-1] == "[SEP]"
    assert [token.token_type_id for token in tokens] == [0] * (first_end + 1) + [1] * (len(tokens) - first_end - 1)


def test_ids_are_those_of_transformers(source):
    pretrained = load_tokenizer(source).pretrained
    found = [token.input_id for token in explain("The fox hears the owl.", "A bee.", source=source).tokens]
    assert found == pretrained("The fox hears the owl.", "A bee.")["input_ids"]


def test_special_tokens_are_never_chosen_and_others_are_at_the_rate_of_the_paper(source):
    text = "the cat sees the dog near the river " * 5
    for seed in range(20):
        tokens = explain(text, source=source, seed=seed).tokens
        chosen = [token for token in tokens if token.masked_as is not None]
        assert not {"[CLS]", "[SEP]"} & {token.piece for token in chosen}
        assert len(chosen) == round(0.15 * (len(tokens) - 2))
    assert explain(text, source=source, seed=1) == explain(text, source=source, seed=1)
    assert explain(text, source=source, seed=1) != explain(text, source=source, seed=2)


def test_what_has_no_room_is_cut_from_the_longer_text_and_counted(source):
    found = explain("the cat sees the dog near the river", "the bee", source=source, max_seq_length=9)
    assert len(found.tokens) == 9
    whole = explain("the cat sees the dog near the river", "the bee", source=source)
    assert found.num_cut == len(whole.tokens) - 9
    # The second text is the shorter one, and whole.
    assert [token.piece for token in found.tokens][-3:] == [token.piece for token in whole.tokens][-3:]


def test_special_tokens_inside_a_text_are_ordinary_letters(source):
    pieces = [token.piece for token in explain("see [SEP] here", source=source).tokens]
    assert pieces.count("[SEP]") == 1


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_one_line(source, text):
    with pytest.raises(ConfigError, match="nothing to explain"):
        explain(text, source=source)
    assert shown("the cat", text, "--from", source).exit_code == 2


def test_an_argument_that_is_no_text_is_one_line(source):
    with pytest.raises(ConfigError, match="not UTF-8"):
        explain("a\udcff", source=source)


def test_no_position_is_shown_that_the_model_does_not_have(tmp_path):
    folder = write_head(tmp_path / "head")  # 64 positions
    assert len(explain("the cat sat on " * 50, source=str(folder)).tokens) == 64
    with pytest.raises(ConfigError, match="reads 64 tokens at the most"):
        explain("the cat", source=str(folder), max_seq_length=65)


def test_too_little_room_and_no_tokenizer_are_one_line(source, tmp_path, monkeypatch):
    assert "leave no room" in shown("the cat", "--max-seq-length", 2, "--from", source).stderr
    missing = shown("the cat", "--from", tmp_path)
    assert missing.exit_code == 2
    assert "there is no tokenizer at" in missing.stderr
    monkeypatch.chdir(tmp_path)
    without = shown("the cat")
    assert without.exit_code == 2
    assert "there is no run" in without.stderr


def test_the_command_prints_a_table_and_json(source):
    table = shown("the cat sees the dog", "the bee", "--from", source, "--seed", 3)
    assert table.exit_code == 0, table.output
    assert "in pre-training" in table.stdout
    assert "predicted" in table.stdout
    found = json.loads(shown("the cat sees the dog", "--from", source, "--json").stdout)
    assert np.array_equal([token["position"] for token in found["tokens"]], range(len(found["tokens"])))
