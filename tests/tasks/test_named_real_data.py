"""The real data sets in their original layouts: every row is there."""

from pathlib import Path

import pytest
from named_fixtures import read

from bertkit.tasks.conll import detect_scheme, read_conll
from bertkit.tasks.squad_json import read_squad
from bertkit.tasks.swag_files import read_swag

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not part of the repository")


@needs_data
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cola", (8551, 1043, 1063)),
        ("sst2", (67349, 872, 1821)),
        ("mrpc", (3668, 408, 1725)),
        ("stsb", (5749, 1500, 1379)),
        ("rte", (2490, 277, 3000)),
        ("wnli", (635, 71, 146)),
    ],
)
def test_the_real_glue_has_every_row(name, counts):
    splits = ("train", "validation", "test")
    assert tuple(len(read(f"glue/{name}", split, DATA / "glue")) for split in splits) == counts


@needs_data
def test_the_real_subsets_and_the_diagnostic_set_have_every_row():
    assert len(read("glue/ax", "test", DATA / "glue")) == 1104
    for name, split in (("mnli", "validation_matched"), ("qnli", "validation"), ("qqp", "validation")):
        assert len(read(f"glue/{name}", "train", DATA / "glue")) == 8999
        assert len(read(f"glue/{name}", split, DATA / "glue")) == 1000


@needs_data
@pytest.mark.parametrize(("name", "questions", "impossible"), [("dev-v1.1", 10570, 0), ("cs224n-dev-v2.0", 6078, 3168)])
def test_the_real_squad_has_every_question_and_every_answer_in_its_place(name, questions, impossible):
    examples = read_squad(DATA / "squad" / f"{name}.json")
    assert len(examples) == questions
    assert sum(example.label == () for example in examples) == impossible
    for example in examples:
        for answer in example.label:
            assert example.texts[1][answer.start :].startswith(answer.text)


@needs_data
@pytest.mark.parametrize(
    ("path", "sentences", "scheme"),
    [
        ("wnut17/wnut17train.conll", 3394, "IOB2"),
        ("wnut17/emerging.dev.conll", 1009, "IOB2"),
        ("wnut17/emerging.test.annotated", 1287, "IOB2"),
        ("ud_english_ewt/en_ewt-ud-dev.conllu", 2001, "none"),
        ("ud_english_ewt/en_ewt-ud-test.conllu", 2077, "none"),
    ],
)
def test_the_real_tagging_files_have_every_sentence(path, sentences, scheme):
    examples = read_conll(DATA / path)
    assert len(examples) == sentences
    assert detect_scheme(example.label for example in examples) == scheme


@needs_data
def test_the_real_swag_has_the_same_choices_in_both_formats():
    four = {example.texts[0]: example for example in read_swag(DATA / "swag_sample" / "allennlp_fixture.csv")}
    full = read_swag(DATA / "swag_sample" / "swag_full_format_val20.csv")
    shared = [(example, four[example.texts[0]]) for example in full if example.texts[0] in four]
    assert len(full) == 20
    assert len(shared) > 5
    for one, other in shared:
        if one.columns["startphrase"] == other.columns["startphrase"]:
            assert sorted(one.texts[1:]) == sorted(other.texts[1:])
            assert one.texts[1 + one.label] == other.texts[1 + other.label]
    assert [example.label for example in read_swag(DATA / "swag_sample" / "swag_test40.csv")] == [None] * 40
