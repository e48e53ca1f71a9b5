"""The user's own files: what is read, what is guessed, what is refused, and how examples are set aside."""

import csv
import gzip
import json
import logging
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.errors import TaskError
from bertkit.tasks.check import check_examples
from bertkit.tasks.own_files import (
    BrokenRow,
    Columns,
    detect_problem,
    label_names,
    read_examples,
    resolve_columns,
    split_examples,
    stream_examples,
)
from bertkit.tasks.spec import Answer, Example
from bertkit.tasks.table import TableRow, read_table

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")

SQUAD = {"data": [{"paragraphs": [{"context": "Rome fell.", "qas": []}]}]}
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


# --- what is read ---------------------------------------------------------------------------------------------------

SAME_ROWS = {
    "rows.csv": 'text,label\n"a, b",x\n"say ""hi""",y\n',
    "rows.tsv": 'text\tlabel\na, b\tx\nsay "hi"\ty\n',
    "bom.csv": '\ufefftext,label\n"a, b",x\n"say ""hi""",y\n',
    "crlf.csv": 'text,label\r\n"a, b",x\r\n"say ""hi""",y\r\n',
    "semicolons.csv": 'text;label\na, b;x\n"say ""hi""";y\n',
    "quoted.tsv": '"text"\t"label"\n"a, b"\t"x"\n"say ""hi"""\t"y"\n',
    "rows.jsonl": '{"text": "a, b", "label": "x"}\n\n{"text": "say \\"hi\\"", "label": "y"}\n',
    "lines.json": '{"text": "a, b", "label": "x"}\n{"text": "say \\"hi\\"", "label": "y"}\n',
    "array.json": '[{"text": "a, b", "label": "x"},\n {"text": "say \\"hi\\"", "label": "y"}]',
    "rows.parquet": parquet({"text": ["a, b", 'say "hi"'], "label": ["x", "y"]}),
    "rows.csv.gz": gzip.compress(b'text,label\n"a, b",x\n"say ""hi""",y\n'),
    "rows.jsonl.gz": gzip.compress(b'{"text": "a, b", "label": "x"}\n{"text": "say \\"hi\\"", "label": "y"}\n'),
}


@pytest.mark.parametrize("name", SAME_ROWS)
def test_every_format_gives_the_same_examples(tmp_path, name):
    examples = read_examples(write(tmp_path, name, SAME_ROWS[name]), "classification")
    assert [(example.texts, example.label) for example in examples] == [(("a, b",), "x"), (('say "hi"',), "y")]


def test_a_place_is_the_line_an_editor_shows(tmp_path):
    path = write(tmp_path, "train.csv", 'text,label\n"two\nlines",x\n\nb,y\n')
    assert [example.place for example in read_examples(path, "classification")] == ["train.csv:2", "train.csv:5"]
    array = write(tmp_path, "train.json", '[\n{"text": "a",\n "label": "x"},\n{"text": "b", "label": "y"}\n]')
    assert [row.place for row in read_table(str(array))] == ["train.json:2", "train.json:4"]


def test_quotes_of_a_tsv_are_letters_unless_it_is_clearly_quoted(tmp_path):
    literal = 'text\tlabel\n" a b\tx\n"c"\ty\nd "\tx\n'
    examples = read_examples(write(tmp_path, "glue.tsv", literal), "classification")
    assert [example.texts[0] for example in examples] == ['" a b', '"c"', 'd "']
    with_tab = 'text\tlabel\n"a\tb"\tx\nc\ty\n'
    examples = read_examples(write(tmp_path, "minimal.tsv", with_tab), "classification")
    assert [example.texts[0] for example in examples] == ["a\tb", "c"]


def test_columns_of_a_file_without_header_go_by_number(tmp_path):
    path = write(tmp_path, "codah.tsv", "o\tI am\tfull\tempty\t1\no\tHe is\ttall\tsmall\t0\n")
    columns = Columns(texts=("1",), label="4", choices=("2", "3"))
    examples = read_examples(path, "multiple_choice", columns)
    assert [(example.texts, example.label) for example in examples] == [
        (("I am", "full", "empty"), 1),
        (("He is", "tall", "small"), 0),
    ]
    unlabelled = write(tmp_path, "new.tsv", "o\tShe is\tnear\tfar\n")
    assert next(stream_examples(unlabelled, "multiple_choice", columns)).texts == ("She is", "near", "far")


def test_the_first_rows_id_and_columns_stay_with_an_example(tmp_path):
    path = write(tmp_path, "train.csv", "id,text,label,extra\n7,a,x,e\n")
    (example,) = read_examples(path, "classification")
    assert example == Example("7", "train.csv:2", ("a",), "x", {"id": "7", "text": "a", "label": "x", "extra": "e"})


def test_swag_columns_are_recognised_and_every_ending_continues_the_second_sentence(tmp_path):
    header = "sent1,sent2,ending0,ending1,ending2,ending3,label"
    path = write(tmp_path, "swag.csv", f"{header}\nShe sat.,She,ran.,ate.,slept.,sang.,2\n")
    (example,) = read_examples(path, "multiple_choice")
    assert example.texts == ("She sat.", "She ran.", "She ate.", "She slept.", "She sang.")
    assert example.label == 2


@pytest.mark.parametrize(("cell", "label"), [("1", 1), ("1.0", 1), ("B", 1), ("b", 1), ("", None)])
def test_the_right_choice_is_a_number_from_0_or_a_letter_from_a(tmp_path, cell, label):
    path = write(tmp_path, "c.csv", f"context,choice0,choice1,label\nIt is,hot,cold,{cell}\n")
    assert read_examples(path, "multiple_choice")[0].label == label


def test_choices_may_be_a_list(tmp_path):
    path = write(tmp_path, "c.jsonl", jsonl({"question": "Is it?", "choices": ["yes", "no", "perhaps"], "label": 2}))
    assert read_examples(path, "multiple_choice")[0].texts == ("Is it?", "yes", "no", "perhaps")


def test_tags_come_as_lists_or_as_columns(tmp_path):
    rows = jsonl({"tokens": ["Rome", "fell"], "ner_tags": ["B-LOC", "O"]})
    from_lists = read_examples(write(tmp_path, "t.jsonl", rows), "tagging")
    from_columns = read_examples(write(tmp_path, "t.conll", "Rome B-LOC\nfell O\n"), "tagging")
    by_number = read_examples(write(tmp_path, "t.tsv", "1\tRome\tB-LOC\n2\tfell\tO\n"), "tagging", Columns(("1",), "2"))
    for examples in (from_lists, from_columns, by_number):
        assert [(e.texts, e.label) for e in examples] == [(("Rome", "fell"), ("B-LOC", "O"))]


def test_questions_come_nested_or_flat(tmp_path):
    answer = {"text": ["Rome"], "answer_start": [0]}
    flat = {"id": "q1", "question": "What fell?", "context": "Rome fell.", "answers": answer}
    table = "id,question,context,answer,answer_start\nq1,What fell?,Rome fell.,Rome,0\n"
    for name, content in {"q.json": squad(), "q.jsonl": jsonl(flat), "q.csv": table}.items():
        (example,) = read_examples(write(tmp_path, name, content), "span_qa")
        assert (example.key, example.texts) == ("q1", ("What fell?", "Rome fell."))
        assert example.label == (Answer("Rome", 0),)


def test_an_answer_without_start_is_looked_for_and_an_empty_one_is_none(tmp_path):
    rows = "question,context,answer\nWhat?,So Rome fell.,Rome\nWhy?,So Rome fell.,\nWho?,So Rome fell.,Paris\n"
    labels = [example.label for example in read_examples(write(tmp_path, "q.csv", rows), "span_qa")]
    assert labels == [(Answer("Rome", 3),), (), (Answer("Paris", -1),)]


@pytest.mark.parametrize(
    ("rows", "label"),
    [
        ([{"text": "a", "labels": ["x", "y"]}], None),
        ([{"text": "a", "labels": "x|y"}], None),
        ([{"text": "a", "labels": "x;y"}], None),
        ([{"text": "a", "labels": '["x", "y"]'}], None),
        ([{"text": "a", "x": "1", "y": 1, "z": 0}], "x,y,z"),
    ],
)
def test_several_labels_come_as_list_with_separator_or_as_columns(tmp_path, rows, label):
    path = write(tmp_path, "m.jsonl", jsonl(*rows))
    columns = Columns(texts=("text",), label=label)
    assert read_examples(path, "multi_label", columns)[0].label == ("x", "y")


# --- what is guessed ------------------------------------------------------------------------------------------------

GUESSES = {
    "text,label": (("text",), "label"),
    "label,text": (("text",), "label"),
    "idx,premise,hypothesis,label": (("premise", "hypothesis"), "label"),
    "id,Question1,Question2,Class": (("Question1", "Question2"), "Class"),
    "#1 String,#2 String,Quality": (("#1 String", "#2 String"), "Quality"),
    "id,wording,target": (("wording",), "target"),
}


@pytest.mark.parametrize("header", GUESSES)
def test_columns_are_guessed_where_there_is_no_doubt_and_said(tmp_path, header, caplog):
    cells = ["7" if name in ("id", "idx") else f"word {name}" for name in header.split(",")]
    path = write(tmp_path, "train.csv", f"{header}\n{','.join(cells)}\n")
    with caplog.at_level(logging.INFO):
        columns = resolve_columns(path, "classification")
    assert (columns.texts, columns.label) == GUESSES[header]
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("train.csv: guessed")


def test_nothing_is_guessed_or_said_where_all_is_given(tmp_path, caplog):
    path = write(tmp_path, "train.csv", "review,stars,text\na,5,b\n")
    with caplog.at_level(logging.INFO):
        columns = resolve_columns(path, "classification", Columns(("review",), "stars"))
    assert columns == Columns(("review",), "stars")
    assert not caplog.records


PROBLEMS = {
    "names": (["good", "bad", "good"], "classification"),
    "stars": ([1, 2, 3, 4, 5, 5], "classification"),
    "strings of stars": (["1", "2", "5"], "classification"),
    "scores": (["3.8", "5.000", "0.25"], "regression"),
    "many numbers": (list(range(100, 160)), "regression"),
    "many class ids": (list(range(77)) * 4, "classification"),
    "lists": ([["a", "b"], ["a"]], "multi_label"),
    "separated": (["a|b", "a", "b|c"], "multi_label"),
    "a separator that is a letter": (["R&B; Soul", "Jazz", "Pop"], "classification"),
    "numbers and a name": (["1.5", "2.5", "none"], "classification"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_problem_is_told_by_its_labels(tmp_path, name, caplog):
    labels, problem = PROBLEMS[name]
    path = write(tmp_path, "train.jsonl", jsonl(*({"text": "a", "label": label} for label in labels)))
    with caplog.at_level(logging.INFO):
        assert detect_problem(path) == problem
    assert "task.problem" in caplog.text


def test_several_label_columns_are_several_labels(tmp_path):
    path = write(tmp_path, "train.csv", "text,angry,sad\na,1,0\n")
    assert detect_problem(path, Columns(("text",), "angry,sad")) == "multi_label"
    odd = write(tmp_path, "odd.csv", 'text,"angry,sad"\na,1\nb,0\n')
    assert detect_problem(odd, Columns(("text",), "angry,sad")) == "classification"


def test_label_names_are_sorted_and_numbers_by_value():
    examples = [Example(str(n), str(n), ("a",), label) for n, label in enumerate(["10", "9", "2"])]
    assert label_names(examples, "classification") == ("2", "9", "10")
    examples.append(Example("x", "x", ("a",), "b"))
    assert label_names(examples, "classification") == ("10", "2", "9", "b")
    tags = [Example("t", "t", ("a", "b"), ("O", "B-LOC"))]
    assert label_names(tags, "tagging") == ("B-LOC", "O")
    assert label_names([Example("r", "r", ("a",), 1.0)], "regression") == ()


# --- what is predicted ----------------------------------------------------------------------------------------------


def test_a_bad_row_is_marked_and_the_others_are_predicted(tmp_path):
    path = write(tmp_path, "new.csv", b"text,n\na,1\nb\nc\xe4,2\nd,3\n")
    rows = list(stream_examples(path, "classification", Columns(("text",), "label")))
    assert [type(row) for row in rows] == [Example, BrokenRow, BrokenRow, Example]
    assert [row.place for row in rows] == ["new.csv:2", "new.csv:3", "new.csv:4", "new.csv:5"]
    assert rows[0].label is None
    assert rows[0].columns == {"text": "a", "n": "1"}
    assert rows[1].columns == {"text": "b"}


def test_a_label_that_cannot_be_read_does_not_break_a_row_to_predict(tmp_path):
    path = write(tmp_path, "new.csv", "text,label\na,none\nb,2.5\n")
    assert [row.label for row in stream_examples(path, "regression")] == [None, 2.5]


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"text {n},x\n" for n in range(50_000))
        file.write('"never closed,x\n')
    rows = stream_examples(path, "classification")
    assert [row.texts[0] for row in islice(rows, 3)] == ["text 0", "text 1", "text 2"]
    rows.close()
    assert isinstance(list(read_table(str(path)))[-1], BrokenRow)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_pythons_csv_module_writes_is_read_back(tmp_path, rows):
    path = tmp_path / "f.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    assert [tuple(row.columns.values()) for row in read_table(str(path)) if isinstance(row, TableRow)] == rows


# --- what is set aside ----------------------------------------------------------------------------------------------


def labelled(counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [Example(str(n), f"train.csv:{n + 2}", (f"text {n}",), label) for n, label in enumerate(labels)]


def test_every_class_keeps_its_share_and_is_on_both_sides():
    train, held_out = split_examples(labelled({"a": 100, "b": 50, "c": 2, "d": 1}), "classification", share=0.1, seed=0)
    assert Counter(example.label for example in held_out) == {"a": 10, "b": 5, "c": 1}
    assert Counter(example.label for example in train) == {"a": 90, "b": 45, "c": 1, "d": 1}


def test_a_split_is_decided_by_its_seed_alone():
    examples = labelled({"a": 50, "b": 50})
    first, again, other = (split_examples(examples, "classification", share=0.2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first[0] + first[1], key=lambda e: int(e.key)) == examples


def test_equal_texts_stay_on_one_side():
    examples = [Example(str(n), str(n), (f"text {n % 10}",), "ab"[n % 2]) for n in range(100)]
    train, held_out = split_examples(examples, "classification", share=0.3, seed=0)
    assert not {e.texts for e in train} & {e.texts for e in held_out}
    assert len(held_out) == 20  # a text stands in ten rows, and each class has five texts


def test_questions_of_one_context_stay_on_one_side():
    examples = [Example(str(n), str(n), (f"q{n}", f"context {n % 7}"), ()) for n in range(70)]
    train, held_out = split_examples(examples, "span_qa", share=0.3, seed=0)
    assert not {e.texts[1] for e in train} & {e.texts[1] for e in held_out}
    assert len(held_out) == 20


def test_a_split_is_stated(caplog):
    with caplog.at_level(logging.INFO):
        split_examples(labelled({"a": 50, "b": 50}), "classification", share=0.1, seed=7)
    assert "10 are set aside" in caplog.text
    assert "seed 7" in caplog.text


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(TaskError, match="give one between 0 and 1"):
        split_examples(labelled({"a": 5}), "classification", share=1.0, seed=0)
    same = [Example(str(n), str(n), ("same",), "a") for n in range(3)]
    with pytest.raises(TaskError, match="--eval"):
        split_examples(same, "classification", share=0.5, seed=0)
    train, held_out = split_examples(labelled({"a": 1, "b": 1, "c": 1}), "classification", share=0.3, seed=0)
    assert (len(train), len(held_out)) == (2, 1)


# --- real data ------------------------------------------------------------------------------------------------------


@needs_shared
def test_banking77_is_read_by_itself():
    folder = SHARED / "text_classification" / "banking77"
    train = read_examples(folder / "train.csv", "classification")
    test = read_examples(folder / "test.csv", "classification")
    assert (len(train), len(test)) == (10003, 3080)
    assert label_names(train, "classification") == label_names(test, "classification")
    assert len(label_names(train, "classification")) == 77
    assert detect_problem(folder / "train.csv") == "classification"


@needs_shared
@pytest.mark.parametrize(
    ("path", "problem", "columns", "number"),
    [
        ("codah/full_data.tsv", "multiple_choice", Columns(("1",), "6", ("2", "3", "4", "5")), 2776),
        ("swag_sample/allennlp_fixture.csv", "multiple_choice", Columns(), 11),
        ("swag_sample/hf_fixture.jsonl", "multiple_choice", Columns(), 10),
        ("wnut17/wnut17train.conll", "tagging", Columns(), 3394),
        ("wnut17/emerging.test.annotated", "tagging", Columns(), 1287),
        ("glue/MRPC/train.tsv", "classification", Columns(), 3668),
        ("glue/STS-B/train.tsv", "regression", Columns(), 5749),
        ("glue/CoLA/train.tsv", "classification", Columns(("3",), "1"), 8551),
        ("squad/dev-v1.1.json", "span_qa", Columns(), 10570),
    ],
)
def test_real_files_have_the_rows_they_should(path, problem, columns, number):
    examples = read_examples(SHARED / path, problem, columns)
    assert len(examples) == number
    assert not check_examples(examples, {}, problem).errors
