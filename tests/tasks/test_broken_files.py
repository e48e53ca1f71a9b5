"""Broken labelled files: every one gives a sentence with file, row and remedy; none gives another exception."""

import gzip
import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.errors import TaskError
from bertkit.tasks.check import check_examples
from bertkit.tasks.own_files import Columns, read_examples


@dataclass(frozen=True)
class Case:
    """A file, and the words that the sentence about it must hold."""

    file: str
    content: bytes
    words: tuple[str, ...]
    problem: str
    severity: str
    columns: Columns

    def write(self, folder):
        return write(folder, self.file, self.content)


def case(file, content, *words, problem="classification", severity="", **columns):
    return Case(file, content, words, problem, severity, Columns(**columns))


QUESTION = {"id": "q1", "question": "What fell?", "answers": [{"text": "Rome", "answer_start": 0}]}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def squad(**changes):
    question = {name: value for name, value in (QUESTION | changes).items() if value is not None}
    return json.dumps({"data": [{"paragraphs": [{"context": "Rome fell.", "qas": [question]}]}]})


OK = "text,label\na,x\nb,y\n"
CHOICES = "context,choice0,choice1,label\n"
BROKEN = {
    "empty csv": case("f.csv", "", "f.csv", "empty", "give"),
    "empty jsonl": case("f.jsonl", "\n\n", "f.jsonl", "empty", "give"),
    "empty conll": case("f.conll", "", "f.conll", "empty", problem="tagging"),
    "header only": case("f.csv", "text,label\n", "f.csv", "no rows", "give"),
    "binary": case("f.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "f.csv:1", "0x89", "iconv"),
    "nul": case("f.csv", b"text,label\na\x00,x\n", "f.csv:2", "NUL", "export"),
    "utf-16": case("f.csv", OK.encode("utf-16"), "f.csv:1", "UTF-16", "iconv"),
    "latin-1": case("f.csv", "text,label\na,x\nä,y\n".encode("latin-1"), "f.csv:3", "0xe4", "iconv"),
    "latin-1 jsonl": case("f.jsonl", b'{"text": "\xe4"}\n', "f.jsonl:1", "0xe4", "iconv"),
    "latin-1 conll": case("f.conll", b"K\xf6ln B-LOC\n", "f.conll:1", "UTF-8", "iconv", problem="tagging"),
    "unclosed quote": case("f.csv", 'text,label\n"a,x\nb,y\n', "f.csv:2", "never closed", "close it"),
    "stray quote": case("f.csv", 'text,label\n"a" b,x\n', "f.csv:2", "quote", "double"),
    "too few cells": case("f.csv", "text,label\na\n", "f.csv:2", "1 cell ", "add what is missing"),
    "too many cells": case("f.csv", "text,label\na, b,x\n", "f.csv:2", "3 cells", "quote"),
    "ragged tsv": case("f.tsv", "text\tlabel\na\n", "f.tsv:2", "1 cell ", "add what is missing"),
    "missing column": case("f.csv", OK, "f.csv", "'text'", "--text", "perhaps", texts=("texts",)),
    "missing label column": case("f.csv", OK, "f.csv", "'stars'", "--label", label="stars"),
    "no such number": case("f.csv", "a,x\n", "f.csv", "'7'", "--label", texts=("0",), label="7"),
    "twice a column": case("f.csv", "text,text,label\na,b,x\n", "f.csv:1", "'text'", "rename"),
    "doubt about text": case("f.csv", "title,story,label\na,b,x\n", "f.csv", "'title'", "--text"),
    "doubt about label": case("f.csv", "text,label,class\na,b,x\n", "f.csv", "'class'", "--label"),
    "text is label": case("f.csv", OK, "f.csv", "--label", texts=("label",), label="label"),
    "json syntax": case("f.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', "f.jsonl:2", "JSON", "write"),
    "json not objects": case("f.jsonl", '["a", "x"]\n', "f.jsonl:1", "a list", "braces"),
    "json nested": case("f.jsonl", "[" * 100_000, "f.jsonl:1", "JSON", "mend"),
    "json half a pair": case("f.jsonl", '{"text": "\\ud800", "label": "x"}', "f.jsonl:1", "surrogate"),
    "json array syntax": case("f.json", '[{"text": "a"},\n{]', "f.json:2", "JSON", "mend"),
    "json empty array": case("f.json", "[]", "f.json", "empty", "give"),
    "key missing in a row": case(
        "f.jsonl", jsonl({"text": "a", "label": "x"}, {"text": "b"}), "f.jsonl:2", "'label'", "add"
    ),
    "number for text": case(
        "f.jsonl", jsonl({"text": 5, "label": "x"}), "f.jsonl:1", "a number", "another column", texts=("text",)
    ),
    "list label": case("f.jsonl", jsonl({"text": "a", "label": ["x"]}), "f.jsonl:1", "a list", "multi_label"),
    "name in regression": case(
        "f.csv", "text,label\na,1.5\nb,good\n", "f.csv:3", "'good'", "write", problem="regression"
    ),
    "neither 0 nor 1": case(
        "f.csv", "text,a,b\nt,1,0\nu,2,0\n", "f.csv:3", "'2'", "0 or 1", problem="multi_label", label="a,b"
    ),
    "parquet cut": case("f.parquet", parquet({"text": ["a"], "label": ["x"]})[:-20], "f.parquet", "Parquet", "anew"),
    "parquet empty": case("f.parquet", b"", "f.parquet", "Parquet", "anew"),
    "parquet no rows": case("f.parquet", parquet({"text": [], "label": []}), "f.parquet", "no rows"),
    "gz broken": case("f.csv.gz", gzip.compress(OK.encode() * 99, mtime=0)[:-12], "f.csv.gz", "mend"),
    "gz is none": case("f.csv.gz", OK, "f.csv.gz", "mend"),
    "unknown suffix": case("f.xlsx", b"PK\x03\x04", "f.xlsx", ".csv", "give"),
    "words as text": case(
        "f.jsonl", jsonl({"tokens": "a b", "tags": ["O", "O"]}), "f.jsonl:1", "text", "list", problem="tagging"
    ),
    "null among words": case(
        "f.jsonl", jsonl({"tokens": ["a", None], "tags": ["O", "O"]}), "f.jsonl:1", "null", problem="tagging"
    ),
    "tags in a csv": case("f.csv", "tokens,tags\na,O\n", "f.csv", "convert", problem="tagging"),
    "conll columns": case("f.conll", "Rome B-LOC\nfell\n", "f.conll:2", "columns", problem="tagging"),
    "conll by name": case("f.conll", "Rome B-LOC\n", "f.conll", "numbers", "--label", problem="tagging", label="ner"),
    "squad no json": case("f.json", '{"data": [', "f.json", "JSON", problem="span_qa"),
    "squad key": case("f.json", squad(question=None), "f.json", "question", problem="span_qa"),
    "squad ids": case(
        "f.json",
        json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [QUESTION, QUESTION]}]}]}),
        "f.json",
        "q1",
        problem="span_qa",
    ),
    "answer start": case(
        "f.csv",
        "question,context,answer,answer_start\nq,c,a,one\n",
        "f.csv:2",
        "'one'",
        "whole number",
        problem="span_qa",
    ),
    "answers and starts": case(
        "f.jsonl",
        jsonl({"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}}),
        "f.jsonl:1",
        "starts",
        "one start",
        problem="span_qa",
    ),
    "no context": case("f.csv", "question,passage,answer\nq,c,a\n", "f.csv", "'passage'", "--text", problem="span_qa"),
    "choice label": case(
        "f.csv", CHOICES + "c,a,b,second\n", "f.csv:2", "'second'", "write", problem="multiple_choice"
    ),
    "no choices": case("f.csv", "context,label\nc,0\n", "f.csv", "--choice", problem="multiple_choice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gives_one_sentence_with_file_row_and_remedy(tmp_path, name):
    broken = BROKEN[name]
    path = broken.write(tmp_path)
    with pytest.raises(TaskError) as caught:
        read_examples(path, broken.problem, broken.columns)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in broken.words:
        assert word in sentence


# What can be read, but not be trained on: the check says it.
FOUND = {
    "null text": case(
        "f.jsonl",
        jsonl({"text": None, "label": "x"}, {"text": "b", "label": "y"}),
        "f.jsonl:1",
        "empty text",
        "fill it in",
        severity="warning",
        texts=("text",),
    ),
    "empty text": case("f.csv", "text,label\n ,x\nb,y\n", "f.csv:2", "empty text", "fill it in", severity="warning"),
    "missing label": case("f.csv", "text,label\na,\nb,y\n", "f.csv:2", "no label", "fill it in", severity="error"),
    "NaN label": case(
        "f.csv",
        "text,label\na,nan\nb,1\n",
        "f.csv:2",
        "finite",
        "write a number",
        problem="regression",
        severity="error",
    ),
    "tags shorter": case(
        "f.jsonl",
        jsonl({"words": ["a", "b"], "tags": ["O"]}),
        "f.jsonl:1",
        "2 words and 1 tags",
        "every word",
        problem="tagging",
        severity="error",
    ),
    "start beyond": case(
        "f.json",
        squad(answers=[{"text": "Rome", "answer_start": 99}]),
        "f.json",
        "at 0, not at 99",
        "count",
        problem="span_qa",
        severity="error",
    ),
    "answer mismatch": case(
        "f.json",
        squad(answers=[{"text": "Paris", "answer_start": 0}]),
        "f.json",
        "nowhere",
        "remove",
        problem="span_qa",
        severity="error",
    ),
    "duplicate ids": case(
        "f.csv", "id,text,label\n1,a,x\n1,b,y\n", "f.csv:2", "'1'", "give every row", severity="warning"
    ),
    "label out of range": case(
        "f.csv",
        CHOICES + "c,a,b,2\nd,a,b,1\n",
        "f.csv:2",
        "2 of 2",
        "count from 0",
        problem="multiple_choice",
        severity="error",
    ),
    "empty choice": case(
        "f.csv",
        CHOICES + "c,a,,0\n",
        "f.csv:2",
        "empty choice",
        "fill it in",
        problem="multiple_choice",
        severity="warning",
    ),
    "one class": case("f.csv", "text,label\na,x\nb,x\n", "f.csv:2", "'x'", "add rows", severity="error"),
    "numbers for texts": case(
        "f.csv", "text,label\n1,x\n2,y\n", "f.csv:2", "number", "--text", severity="warning", texts=("text",)
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_reads_but_cannot_be_trained_on_is_found(tmp_path, name):
    wrong = FOUND[name]
    examples = read_examples(wrong.write(tmp_path), wrong.problem, wrong.columns)
    findings = check_examples(examples, {}, wrong.problem).of(wrong.severity)
    assert any(all(word in finding.sentence for word in wrong.words) for finding in findings), findings


def test_a_label_that_training_never_sees_is_found_with_its_row(tmp_path):
    train = read_examples(write(tmp_path, "train.csv", "text,label\na,good\nb,bad\n"), "classification")
    dev = read_examples(write(tmp_path, "dev.csv", "text,label\nc,good\nd,Good\n"), "classification")
    (finding,) = [
        f for f in check_examples(train, {"dev": dev}, "classification").warnings if "never sees" in f.sentence
    ]
    assert "dev.csv:3" in finding.sentence
    assert "'Good' may be 'good'" in finding.sentence


@pytest.mark.parametrize("problem", ["classification", "tagging", "span_qa"])
def test_a_folder_and_a_missing_file_are_told_apart(tmp_path, problem):
    with pytest.raises(TaskError, match="is a folder: give one file"):
        read_examples(tmp_path, problem)
    with pytest.raises(TaskError, match=r"there is no file .*gone\.csv"):
        read_examples(tmp_path / "gone.csv", problem)


def test_all_broken_rows_are_named_at_once(tmp_path):
    path = write(tmp_path, "f.csv", "text,label\n" + "a\n" * 9 + "b,y\n")
    with pytest.raises(TaskError, match=r"f\.csv:2 .*f\.csv:3, .*f\.csv:7 and 3 more"):
        read_examples(path, "classification")


FORMATS = {"f.csv": "classification", "f.tsv": "regression", "f.jsonl": "multi_label", "f.json": "span_qa"} | {
    "f.parquet": "classification",
    "f.csv.gz": "classification",
    "f.conll": "tagging",
    "g.json": "multiple_choice",
}
NEAR_MISSES = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(['"', ",", "\t", "\n", "\r", "text", "label", "{", "}", "[", "]", ":", "é", "1", "\0"])
    ).map(lambda parts: "".join(parts).encode()),
)


def read_and_check(path, problem, columns):
    """The sentence, or, where there is nothing to complain about, the path."""
    try:
        examples = read_examples(path, problem, columns)
    except TaskError as error:
        return str(error)
    check_examples(examples, {"dev": examples}, problem)
    return str(path)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=NEAR_MISSES)
def test_no_bytes_give_anything_but_examples_or_a_sentence(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert name in read_and_check(path, FORMATS[name], Columns())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0), byte=st.integers(min_value=0, max_value=255))
def test_no_changed_byte_of_a_parquet_file_gives_anything_but_rows_or_a_sentence(tmp_path, place, byte):
    content = bytearray(parquet({"text": ["a", "b"], "label": ["x", "y"]}))
    content[place % len(content)] = byte
    path = write(tmp_path, "f.parquet", bytes(content))
    assert "f.parquet" in read_and_check(path, "classification", Columns(("text",), "label"))
