"""Broken files of named tasks: one sentence with the file, the row and the remedy."""

import pytest
from named_fixtures import HANS_HEADER, SWAG_FULL_HEADER, WHO, read, squad_json, tsv, write

from bertkit.errors import TaskError
from bertkit.tasks.conll import read_conll
from bertkit.tasks.squad_json import read_squad

RTE_HEADER = "index|sentence1|sentence2|label"
BROKEN = [
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A.|B.|maybe"), "train.tsv:2: the label 'maybe' is none"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A.|B.|"), "train.tsv:2: the label '' is none"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A.|B.|2"), "one of entailment, not_entailment"),
    ("glue/rte", "train", "RTE/train.tsv", tsv("index|sentence1|label", "0|A.|1"), "has no column 'sentence2'"),
    ("glue/rte", "train", "RTE/train.tsv", "index,sentence1,sentence2,label\n0,A,B,1\n", "separated by tabs"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER), "has a header and no rows"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A.|B.|1", "1|A."), "1 of 2 rows without its 4 columns"),
    ("glue/rte", "train", "RTE/train.tsv", "", "train.tsv is empty"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|é|B.|1").encode("latin-1"), "train.tsv:2 is not UTF-8"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A|B.|1").encode("utf-16"), "is UTF-16"),
    ("glue/rte", "train", "RTE/train.tsv", tsv(RTE_HEADER, "0|A.|B.|-"), "none of the 1 rows from .*train.tsv:2"),
    (
        "glue/rte",
        "train",
        "RTE/dev.tsv",
        tsv(RTE_HEADER, "0|A.|B.|1"),
        "should hold RTE/train.tsv of the GLUE download",
    ),
    ("glue/rte", "test", "RTE/test.tsv", tsv("index|sentence1|sentence2", "0|A.|B.", "1|A."), "wants every row"),
    ("glue/rte", "test", "RTE/test.tsv", tsv("index|sentence1|sentence2", "0|A.|B.", "0|A.|C."), "the index '0' of"),
    ("glue/rte", "dev", "RTE/dev.tsv", "", "has no split 'dev': choose one of train, validation, test"),
    ("glue/stsb", "train", "STS-B/train.tsv", tsv("sentence1|sentence2|score", "A|B|high"), "'high' is no number"),
    ("glue/stsb", "train", "STS-B/train.tsv", tsv("sentence1|sentence2|score", "A|B|nan"), "'nan' is no number"),
    ("glue/cola", "train", "CoLA/train.tsv", tsv("gj04|1|They ran."), "train.tsv:1 has no column '3'"),
    ("glue/cola", "train", "CoLA/train.tsv", tsv("source|label|mark|sentence"), "train.tsv:1: the label 'label'"),
    (
        "hans",
        "validation",
        "HANS/heuristics_evaluation_set.txt",
        tsv(HANS_HEADER.replace("heur", "x"), ""),
        "'heuristic'",
    ),
    ("squad", "train", "train-v1.1.json", '{"data": [\n{"x" 1}', "is no JSON at line 2, column 6"),
    ("squad", "train", "train-v1.1.json", "[" * 100_000, "train-v1.1.json is n"),
    ("squad", "train", "train-v1.1.json", "1" * 5000, "too long a number"),
    ("squad", "train", "train-v1.1.json", squad_json({"id": "q", "question": "\ud83d?"}), r"q has half a character"),
    ("swag", "train", "train.jsonl", r'{"sent1": "\ud83d"}', r"train.jsonl:1 has half a character .\\ud83d"),
    ("squad", "train", "train-v1.1.json", "[]", "is a list and no object with 'data'"),
    ("squad", "train", "train-v1.1.json", '{"data": []}', "has no questions"),
    ("squad", "train", "train-v1.1.json", '{"data": [{"title": "x"}]}', r"data\[0\] has no 'paragraphs'"),
    ("squad", "train", "train-v1.1.json", '{"data": [{"paragraphs": [{}]}]}', r"paragraphs\[0\] has no 'context'"),
    ("squad", "train", "train-v1.1.json", squad_json({"question": "Who?"}), r"qas\[0\] has no 'id'"),
    ("squad", "train", "train-v1.1.json", squad_json({"id": "q7"}), "question q7 has no 'question'"),
    ("squad", "train", "train-v1.1.json", squad_json(WHO, WHO), "question q1: its id is given twice"),
    ("squad", "train", "train-v1.1.json", squad_json(WHO | {"answers": "Ann"}), "q1: 'answers' is no list"),
    ("squad", "train", "train-v1.1.json", squad_json(WHO | {"answers": [{"text": "Ann"}]}), "q1 has no 'answer_start'"),
    (
        "squad",
        "train",
        "train-v1.1.json",
        squad_json(WHO | {"answers": [{"text": "Ann", "answer_start": "0"}]}),
        "'answer_start' is no whole number but '0'",
    ),
    ("conll2003", "train", "eng.train", "A NN I-NP O\nB NN O\n", "eng.train:2 has 3 columns where line 1 has 4"),
    ("conll2003", "train", "eng.train", "A\tO\nB\t\n", "eng.train:2 has an empty tag"),
    ("conll2003", "train", "eng.train", "A\tO\n\tO\n", "eng.train:2 has an empty word"),
    ("conll2003", "train", "eng.train", "-DOCSTART- O\n\n", "has no sentences"),
    ("conll2003", "train", "eng.train", "A B-XYZ\n", "eng.train:1: the tag 'B-XYZ' of the word 'A'"),
    ("conll2003", "train", "eng.train", "A\nB\n", "none of the 1 rows from .*eng.train:1 on has a label"),
    ("swag", "train", "train.csv", "sent1,sent2,ending0,ending1,label\nA.,He,x,y,2\n", "train.csv:2: the label '2'"),
    ("swag", "train", "train.csv", "sent1,sent2,ending0,ending1,label\nA.,He,x\n", "train.csv:2 has 3 columns where"),
    ("swag", "train", "train.csv", 'sent1,sent2,ending0,ending1,label\n"A.,He,x,y,1\n', "train.csv:2 cannot be read"),
    ("swag", "train", "train.csv", "sent1,sent2,ending0,label\nA.,He,x,0\n", "train.csv:2 has no two endings"),
    ("swag", "train", "train.csv", "text,sent2,ending0,ending1\nA.,He,x,y\n", "train.csv:2 has no column 'sent1'"),
    ("swag", "train", "train.csv", "sent1,sent2,ending0,ending1,label\n", "has a header and no rows"),
    ("swag", "train", "train.csv", SWAG_FULL_HEADER + "v,A.,He,right,,,,\n", "train.csv:2 has no distractors"),
    ("swag", "train", "train.jsonl", '{"sent1": \n', "train.jsonl:1 is no JSON"),
    ("swag", "train", "train.jsonl", "[1]\n", "train.jsonl:1 is no JSON object"),
]


@pytest.mark.parametrize(("name", "split", "path", "content", "sentence"), BROKEN)
def test_a_broken_file_is_one_sentence_with_its_place(name, split, path, content, sentence, tmp_path):
    write(tmp_path, path, content)
    with pytest.raises(TaskError, match=sentence) as told:
        read(name, split, tmp_path)
    assert "\n" not in str(told.value)
    assert any(sign in str(told.value) for sign in (":", ",")), "what is wrong, then the remedy"


def test_a_data_dir_that_is_no_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(TaskError, match="is no folder: give the one that holds squad/train-v1.1.json"):
        read("squad", "train", tmp_path / "nowhere")


def test_a_column_that_is_not_there_is_refused(tmp_path):
    path = write(tmp_path, "train.txt", "A O\n")
    with pytest.raises(TaskError, match="train.txt:1 has 2 columns and no column 4"):
        read_conll(path, tag_column=4)


def test_files_need_not_be_readable(tmp_path):
    with pytest.raises(TaskError, match="cannot read .*missing.json"):
        read_squad(tmp_path / "missing.json")
