"""Predicting files: every row comes back as it was, in order, with what stock transformers would have said of it."""

import csv
import io
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from toy_heads import write_head, write_heads
from transformers import AutoModelForSequenceClassification

from bertkit.errors import BertkitError, ConfigError, TaskError
from bertkit.tasks.columns import Columns
from bertkit.tasks.own_files import read_examples
from bertkit.tasks.spec import Example
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.predict import predict

TEXTS = ["the cat sat", "a mat, on it", "who?", "cafe 日本", "the cat", "sitting cats on mats", "where was it", "a"]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    return write_heads(tmp_path_factory.mktemp("heads"))


def jsonl(text):
    return [json.loads(line) for line in text.splitlines()]


def run(model, *inputs, **options):
    """What is written to standard output, and the summary."""
    out = io.StringIO()
    summary = predict(model, [str(path) for path in inputs], output=out, **options)
    return out.getvalue(), summary


def run_lines(model, text, monkeypatch, **options):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode())))
    return run(model, **options)[0]


def table(path, rows, header=("id", "text")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return path


def parsed(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_labels_and_probabilities_are_those_of_transformers_pipeline(heads, tmp_path):
    path = table(tmp_path / "new.csv", enumerate(TEXTS))
    theirs = transformers.pipeline("text-classification", model=str(heads / "classes"), top_k=None)(TEXTS)
    rows = parsed(run(heads / "classes", path, with_probabilities=True)[0])
    assert [row["text"] for row in rows] == TEXTS
    for row, scores in zip(rows, theirs, strict=True):
        assert row["prediction"] == scores[0]["label"]
        assert float(row["probability"]) == pytest.approx(scores[0]["score"], abs=1e-4)
        for each in scores:
            assert float(row[f"probability_{each['label']}"]) == pytest.approx(each["score"], abs=1e-4)


def test_a_file_says_what_the_predictor_says(heads, tmp_path):
    path = table(tmp_path / "new.csv", enumerate(TEXTS))
    model = open_finetuned(str(heads / "classes"), precision="fp32")
    expected = list(model.predictor.predict([Example(str(n), "", (text,)) for n, text in enumerate(TEXTS)]))
    rows = parsed(run(heads / "classes", path)[0])
    assert [row["prediction"] for row in rows] == [each.value for each in expected]
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        [each.probability for each in expected], abs=1e-5
    )


def test_pairs_tags_and_answers_are_those_of_transformers_too(heads, tmp_path):
    pairs = table(tmp_path / "pairs.csv", zip(TEXTS, reversed(TEXTS), strict=True), ("premise", "hypothesis"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(heads / "classes")
    model = AutoModelForSequenceClassification.from_pretrained(heads / "classes").eval()
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")).logits
    rows = parsed(run(heads / "classes", pairs)[0])
    assert [row["prediction"] for row in rows] == [model.config.id2label[int(i)] for i in logits.argmax(-1)]
    words = ["the", "cat", "sat", "on", "mats"]
    tagged = transformers.pipeline("token-classification", model=str(heads / "tags"), ignore_labels=[])(" ".join(words))
    (row,) = jsonl(run(heads / "tags", sentences=[" ".join(words)])[0])
    # The first piece of a word speaks for it.
    assert row["prediction"] == [each["entity"] for each in tagged if not each["word"].startswith("##")]
    context = "the cat sat on the mat"
    inputs = tokenizer("who sat", context, return_offsets_mapping=True, return_tensors="pt")
    offsets, second = inputs.pop("offset_mapping")[0], inputs.sequence_ids(0)
    with torch.no_grad():
        scores = transformers.AutoModelForQuestionAnswering.from_pretrained(heads / "answers")(**inputs)
    places = [place for place, of in enumerate(second) if of == 1]
    spans = [(first, last) for first in places for last in places if first <= last]
    first, last = max(spans, key=lambda span: float(scores.start_logits[0, span[0]] + scores.end_logits[0, span[1]]))
    (row,) = jsonl(run(heads / "answers", sentences=["who sat", context])[0])
    assert (row["start"], row["end"]) == (int(offsets[first, 0]), int(offsets[last, 1]))
    assert row["prediction"] == context[row["start"] : row["end"]]


def test_numbers_sets_and_choices_have_their_own_fields(heads, tmp_path):
    path = table(tmp_path / "new.csv", [(0, "the cat"), (1, "who sat")])
    numbers = parsed(run(heads / "number", path)[0])
    assert list(numbers[0]) == ["id", "text", "prediction", "error"]
    float(numbers[0]["prediction"])
    for row in parsed(run(heads / "sets", path)[0]):
        chosen = [float(p) for p in row["probability"].split("|") if p]
        assert len(chosen) == len([name for name in row["prediction"].split("|") if name])
        assert all(p >= 0.5 for p in chosen)
    choices = table(tmp_path / "c.csv", [("who", "the cat", "a mat")], ("context", "ending0", "ending1"))
    (row,) = parsed(run(heads / "choices", choices)[0])
    assert row["choice"] == row[f"ending{row['prediction']}"]


def test_labels_that_hold_the_separator_can_be_read_back(heads, tmp_path):
    path = table(tmp_path / "new.csv", enumerate(TEXTS))
    output = tmp_path / "out.csv"
    predict(heads / "odd sets", path, output=output)
    predicted = [json.loads(row["prediction"]) for row in parsed(output.read_text())]
    model = open_finetuned(str(heads / "odd sets"), precision="fp32")
    texts = [Example(str(n), "", (text,)) for n, text in enumerate(TEXTS)]
    assert predicted == [list(each.value) for each in model.predictor.predict(texts)]
    assert any("a|b" in each for each in predicted)
    read = read_examples(output, "multi_label", Columns(texts=("text",), label="prediction"))
    assert [list(example.label) for example in read] == predicted


def test_labels_go_by_the_name_that_the_model_gives_their_id(heads, tmp_path):
    path = table(tmp_path / "new.csv", enumerate(TEXTS))
    permuted = write_head(tmp_path / "permuted", labels=("mid", "neg", "pos"))
    model = AutoModelForSequenceClassification.from_pretrained(permuted)
    original = AutoModelForSequenceClassification.from_pretrained(heads / "classes")
    order = [original.config.label2id[model.config.id2label[i]] for i in range(3)]
    model.load_state_dict(original.state_dict())
    with torch.no_grad():
        model.classifier.weight.copy_(original.classifier.weight[order])
        model.classifier.bias.copy_(original.classifier.bias[order])
    model.save_pretrained(permuted)
    assert run(permuted, path)[0] == run(heads / "classes", path)[0]


def test_columns_come_back_letter_for_letter_whatever_they_hold(heads, tmp_path):
    awkward = [
        'say "cat"',
        "two\nlines",
        "two\r\nlines",
        "old mac\rline",
        " blanks ",
        "a,b;c\td",
        "日本",
        "007",
        "",
        "NA",
    ]
    path = table(tmp_path / "new.csv", [(n, "the cat", note) for n, note in enumerate(awkward)], ("id", "text", "note"))
    for name, suffix in (("csv", ","), ("tsv", "\t")):
        output = tmp_path / f"out.{name}"
        predict(heads / "classes", path, output=output)
        with output.open(encoding="utf-8", newline="") as file:
            if suffix == ",":
                assert [row["note"] for row in csv.DictReader(file)] == awkward
            else:
                # Quotes are letters in a .tsv, and enclose only what would break the line.
                assert file.read().count('say "cat"\t') == 1


def test_a_tsv_keeps_its_lines_to_the_letter(heads, tmp_path):
    path = tmp_path / "new.tsv"
    lines = ["id\ttext\tnote", '1\tthe "cat"\tx', '2\t"the cat\t y ', "3\tmat\t"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    predict(heads / "classes", path, output=tmp_path / "out.tsv")
    written = (tmp_path / "out.tsv").read_text().splitlines()
    assert [line.rsplit("\t", 3)[0] for line in written] == lines


def test_nested_values_of_json_lines_are_kept(heads, tmp_path):
    rows = [
        {"text": text, "n": n, "nested": {"a": [1, None, {"b": "ü"}]}, "huge": 10**30, "flag": n % 2 == 0}
        for n, text in enumerate(TEXTS)
    ]
    rows[3].pop("flag")
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = jsonl(run(heads / "classes", path)[0])
    assert [{k: v for k, v in row.items() if k not in ("prediction", "probability")} for row in written] == rows


def test_parquet_keeps_its_types(heads, tmp_path):
    columns = pa.table(
        {
            "text": TEXTS[:3],
            "small": pa.array([1, None, 3], pa.int8()),
            "when": pa.array([0, 1, None], pa.timestamp("us", tz="UTC")),
            "many": pa.array([[1.5], [], None], pa.list_(pa.float32())),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "bytes": pa.array([b"\x00\xff", None, b""], pa.binary()),
        }
    )
    pq.write_table(columns, tmp_path / "new.parquet")
    predict(heads / "classes", tmp_path / "new.parquet", output=tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.select(columns.column_names).to_pylist() == columns.to_pylist()
    assert written.select(columns.column_names).schema.equals(columns.schema)
    assert written.column_names[6:] == ["prediction", "probability", "error"]
    assert written.schema.field("probability").type == pa.float64()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file_says_the_same_of_every_input(suffix, heads, tmp_path):
    source = table(tmp_path / "new.csv", enumerate(TEXTS))
    output = tmp_path / f"out{suffix}"
    summary = predict(heads / "classes", source, output=output)
    expected = [row["prediction"] for row in parsed(run(heads / "classes", source)[0])]
    if suffix == ".parquet":
        found = pq.read_table(output)["prediction"].to_pylist()
    elif suffix == ".jsonl":
        found = [row["prediction"] for row in jsonl(output.read_text())]
    else:
        lines = output.read_text().splitlines()
        found = [row["prediction"] for row in csv.DictReader(lines, delimiter="," if suffix == ".csv" else "\t")]
    assert found == expected
    assert (summary.output, summary.rows, summary.bad_rows) == (output, len(TEXTS), 0)


def test_bad_rows_keep_their_place_and_say_why(heads, tmp_path, caplog):
    path = tmp_path / "new.csv"
    path.write_text("id,text\n1,the cat\n2,\n3\n4,who,sat\n5,a mat\n")
    with caplog.at_level("WARNING", logger="bertkit"):
        text, summary = run(heads / "classes", path)
    rows = parsed(text)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [bool(row["prediction"]) for row in rows] == [not row["error"] for row in rows]
    assert [row["error"].split(" ")[0] for row in rows] == ["", "new.csv:3", "new.csv:4", "new.csv:5", ""]
    assert (summary.rows, summary.bad_rows) == (5, 3)
    assert caplog.messages == [
        "3 of 5 rows have no prediction, and an error instead: new.csv:3 has an empty text; also new.csv:4, new.csv:5"
    ]


def test_only_bad_json_lines_have_an_error(heads, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "the cat"}\n{"text": 3}\n{oops\n[1]\n{"text": null, "id": 7}\n{"text": "mat"}\n')
    rows = jsonl(run(heads / "classes", path)[0])
    assert [("error" in row, row["prediction"] is None) for row in rows] == [
        (False, False),
        *[(True, True)] * 4,
        (False, False),
    ]
    assert (rows[1]["text"], rows[4]["id"]) == (3, 7)


def test_bad_rows_do_not_change_their_neighbours(heads, tmp_path):
    good = table(tmp_path / "good.csv", enumerate(TEXTS))
    mixed = table(tmp_path / "mixed.csv", [row for n, text in enumerate(TEXTS) for row in ((n, text), (n, " "))])
    kept = [row for row in parsed(run(heads / "classes", mixed)[0]) if not row["error"]]
    assert kept == parsed(run(heads / "classes", good)[0])


def test_a_name_that_the_input_has_already_stays_the_inputs(heads, tmp_path):
    first = tmp_path / "first.csv"
    predict(heads / "classes", table(tmp_path / "new.csv", enumerate(TEXTS)), output=first)
    rows = parsed(run(heads / "classes", first, texts=["text"])[0])
    added = ["prediction_2", "probability_2", "error_2"]
    assert list(rows[0]) == ["id", "text", "prediction", "probability", "error", *added]
    assert all(row["prediction"] == row["prediction_2"] for row in rows)


def test_more_rows_than_a_chunk_come_in_order(heads, tmp_path):
    path = table(tmp_path / "new.csv", ((n, TEXTS[n % len(TEXTS)]) for n in range(2500)))
    rows = parsed(run(heads / "classes", path)[0])
    assert [int(row["id"]) for row in rows] == list(range(2500))
    by_text = {row["text"]: row["prediction"] for row in rows[:8]}
    assert all(by_text[row["text"]] == row["prediction"] for row in rows)


def test_several_inputs_are_one_after_the_other(heads, tmp_path):
    one = table(tmp_path / "one.csv", [(0, "the cat")])
    two = table(tmp_path / "two.csv", [(1, "a mat")])
    assert [row["id"] for row in parsed(run(heads / "classes", one, two)[0])] == ["0", "1"]


def test_standard_input_takes_texts_pairs_json_and_nothing_that_it_cannot_read(heads, monkeypatch):
    model = heads / "classes"
    rows = jsonl(run_lines(model, "the cat\n\nmat\tcat\r\nlast", monkeypatch))
    assert [row.get("text", row.get("text2")) for row in rows] == ["the cat", "", "cat", "last"]
    assert [row["prediction"] is None for row in rows] == [False, True, False, False]
    rows = jsonl(run_lines(model, '\ufeff{"text": "the cat", "x": [1]}\n\n{"text": "mat"}\n', monkeypatch))
    assert rows[0]["x"] == [1]
    assert len(rows) == 2
    rows = jsonl(run_lines(model, b"the cat\nf\xfcr\n", monkeypatch))
    assert "0xfc, which is not UTF-8" in rows[1]["error"]
    with pytest.raises(TaskError, match="standard input is empty"):
        run_lines(model, "\n", monkeypatch)
    (row,) = jsonl(run_lines(heads / "answers", "who sat\tthe cat sat\n", monkeypatch))
    assert row["context"][row["start"] : row["end"]] == row["prediction"]
    rows = jsonl(run_lines(heads / "answers", "who sat\nwho sat\tthe cat sat\n", monkeypatch))
    assert "a question, a tab and its context" in rows[0]["error"]
    (row,) = jsonl(run_lines(heads / "choices", "who\tthe cat\ta mat\n", monkeypatch))
    assert row["choice"] == row["choices"][row["prediction"]]


@pytest.mark.parametrize(
    ("name", "sentences", "wanted"),
    [
        ("pairs", ["who"], "given 1 times, but the model takes two texts a row"),
        ("answers", ["who", "the cat", "a mat"], "given 3 times, but the model takes a question and its context"),
        ("choices", ["who", "the cat"], "given 2 times, but the model takes a context and two or more choices"),
    ],
)
def test_sentences_that_make_no_row_are_refused_with_what_makes_one(name, sentences, wanted, heads, tmp_path):
    if name == "pairs":
        write_head(tmp_path / "pairs", bertkit={"task": "glue/rte"})
    with pytest.raises(BertkitError, match=wanted):
        run((tmp_path if name == "pairs" else heads) / name, sentences=sentences)


def test_a_model_of_pairs_does_not_take_a_table_of_single_texts(tmp_path):
    model = write_head(tmp_path / "pairs", bertkit={"task": "glue/rte"})
    new = table(tmp_path / "new.csv", [(1, "the cat")])
    with pytest.raises(BertkitError, match="is read as one text, but the model takes pairs of texts: name 2 of its"):
        run(model, new)


def test_standard_input_and_a_text_file_say_the_same(heads, tmp_path, monkeypatch):
    (tmp_path / "new.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert run(heads / "classes", tmp_path / "new.txt")[0] == run_lines(
        heads / "classes", "\n".join(TEXTS) + "\n", monkeypatch
    )


CONLL = "-DOCSTART- -X- O\n\nthe D O\ncat N B-X\n\n# a longer comment\n# N O\nmat N O\n\n\nwho P O\n"


def test_conll_lines_are_kept_with_a_tag_more(heads, tmp_path):
    (tmp_path / "new.conll").write_text(CONLL)
    predict(heads / "tags", tmp_path / "new.conll", output=tmp_path / "out.conll")
    written = (tmp_path / "out.conll").read_text().splitlines()
    predict(heads / "tags", tmp_path / "new.conll", output=tmp_path / "out.jsonl")
    waiting = iter([tag for row in jsonl((tmp_path / "out.jsonl").read_text()) for tag in row["prediction"]])
    has_tag = [
        line.count(" ") == 2 and not line.startswith("-DOC") and "comment" not in line for line in CONLL.splitlines()
    ]
    expected = [
        f"{line} {next(waiting)}" if has else line for line, has in zip(CONLL.splitlines(), has_tag, strict=True)
    ]
    assert written == expected
    assert next(waiting, None) is None


def test_words_of_other_inputs_become_conll_too(heads, tmp_path):
    (tmp_path / "new.jsonl").write_text('{"tokens": ["the", "cat"]}\n{"tokens": ["mat"]}\n')
    predict(heads / "tags", tmp_path / "new.jsonl", output=tmp_path / "out.conll")
    sentences = read_examples(tmp_path / "out.conll", "tagging")
    assert [example.texts for example in sentences] == [("the", "cat"), ("mat",)]


def test_squad_becomes_the_official_predictions(heads, tmp_path):
    questions = [{"id": f"q{n}", "question": q} for n, q in enumerate(("who sat", "where", " "))]
    content = {"version": "1.1", "data": [{"paragraphs": [{"context": "the cat sat on the mat", "qas": questions}]}]}
    (tmp_path / "dev.json").write_text(json.dumps(content))
    predict(heads / "answers", tmp_path / "dev.json", output=tmp_path / "out.json")
    answers = json.loads((tmp_path / "out.json").read_text())
    rows = jsonl(run(heads / "answers", tmp_path / "dev.json")[0])
    assert list(answers) == ["q0", "q1", "q2"]
    assert answers == {row["id"]: row["prediction"] or "" for row in rows}
    assert answers["q2"] == ""


def test_what_is_there_is_never_written_over_and_nothing_half_made_stays(heads, tmp_path):
    source = table(tmp_path / "new.csv", enumerate(TEXTS))
    with pytest.raises(ConfigError, match=r"new\.csv exists already"):
        predict(heads / "classes", source, output=source)
    rows = [{"text": "the cat"}] * 1500 + [{"text": "a mat", "late": 1}]
    (tmp_path / "late.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TaskError, match=r"late\.jsonl:1501 has 'late', which the rows before it do not have"):
        predict(heads / "classes", tmp_path / "late.jsonl", output=tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late.jsonl", "new.csv"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "new.csv", "new.csv is empty"),
        ("id,text\n", "new.csv", "new.csv has no rows"),
        ("a,b\nthe cat,who sat\n", "new.csv", "which column is the text"),
        ("id,text\n1,x\n", "new.xlsx", "has no suffix that says what it is"),
        ("", "new.txt", "new.txt is empty"),
        ("not parquet", "new.parquet", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(content, name, message, heads, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BertkitError, match=message):
        run(heads / "classes", tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kilobytes on Linux alone")
def test_memory_does_not_grow_with_the_input(heads, tmp_path):
    script = (
        "import resource, sys; from bertkit.workflows.predict import predict;"
        "predict(sys.argv[1], sys.argv[2], output=sys.argv[3]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "predict(sys.argv[1], sys.argv[4], output=sys.argv[5]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    padding = "x" * 8000
    small = table(tmp_path / "small.csv", ((n, "the cat", padding) for n in range(1500)), ("id", "text", "note"))
    large = table(tmp_path / "large.csv", ((n, "the cat", padding) for n in range(5000)), ("id", "text", "note"))
    arguments = [heads / "classes", small, tmp_path / "a.csv", large, tmp_path / "b.csv"]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    grown_kb = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    assert large.stat().st_size > 40e6
    assert grown_kb < 15_000


def test_a_fraction_among_whole_numbers_is_never_cut_off(heads, tmp_path):
    path, output = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    # The first rows of a file say what its columns hold.
    rows = [*({"text": "the cat", "stars": 1} for _ in range(1100)), {"text": "the cat", "stars": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(TaskError, match="do not fit the columns of one Parquet file"):
        predict(str(heads / "classes"), path, output=output, texts=("text",))
    assert not output.exists()
