"""Every snippet of a card runs as it is printed, and prints what it promises."""

import ast
import contextlib
import io

import pytest
import torch
from toy_heads import write_head, write_heads
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertkit.hub.usage import usage

FOLDERS = {
    "classification": "classes",
    "regression": "number",
    "multi_label": "sets",
    "tagging": "tags",
    "span_qa": "answers",
    "multiple_choice": "choices",
    "pretraining": "pretraining",
}
PROMISED = {
    "classification": ("neg", "pos", "mid"),
    "regression": ("'score':",),
    "multi_label": ("'a'", "'b'", "'c'"),
    "tagging": ("entity", "[]"),
    "multiple_choice": ("opened her umbrella.", "watered the garden."),
    "pretraining": ("token_str",),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = write_heads(tmp_path_factory.mktemp("heads"))
    write_head(folder / "pretraining", "PreTraining")
    return folder


def run(code):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    return said.getvalue()


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("takes_pairs", [False, True])
def test_the_snippet_runs_as_it_is_printed(kind, takes_pairs, models):
    said = run(usage(kind, (models / FOLDERS[kind]).as_posix(), takes_pairs=takes_pairs))
    assert any(words in said for words in PROMISED.get(kind, (said,)))
    assert said


def test_a_score_is_the_models_own_number_and_no_share(models):
    folder = models / "number"
    inputs = AutoTokenizer.from_pretrained(folder)("A text to label.", return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(folder)(**inputs).logits
    said = ast.literal_eval(run(usage("regression", folder.as_posix())))
    assert said[0]["score"] == pytest.approx(float(logits), abs=1e-5)


def test_tags_of_single_words_are_not_joined_into_chunks():
    assert "aggregation_strategy" not in usage("tagging", "x/y", has_chunks=False)
    assert 'aggregation_strategy="first"' in usage("tagging", "x/y")


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_repository_with_its_own_code_says_that_it_runs_it(kind):
    assert "trust_remote_code=True" in usage(kind, "x/y", with_code=True)
    assert "trust_remote_code" not in usage(kind, "x/y")


@pytest.mark.parametrize("kind", ["span_qa", "multiple_choice", "next_words", "next_words_and_pairs", "features"])
def test_its_stock_tokenizer_is_opened_without_a_question_too(kind):
    opened = [line for line in usage(kind, "x/y", with_code=True).splitlines() if ".from_pretrained(" in line]
    assert len(opened) == 2
    assert all(line.endswith('("x/y", trust_remote_code=True)') for line in opened)
