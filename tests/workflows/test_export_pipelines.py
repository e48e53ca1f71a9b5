"""The export of a run of every kind of problem, opened by plain transformers, says what the run itself predicted."""

import json

import pytest
import torch
from toy_exports import finetuned_run
from transformers import AutoModelForMultipleChoice, AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from bertkit.config.finetune import FinetuneConfig
from bertkit.workflows.task_data import load_task


def predicted(problem, folder, *, steps=12):
    """The export of a run, and its held-out examples beside what it predicted of them."""
    run = finetuned_run(problem, folder, steps=steps)
    rows = load_task(run.read_config(FinetuneConfig)).evaluate["heldout"]
    lines = [json.loads(line) for line in run.predictions_file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(lines) > 5
    return str(run.export), list(zip(rows, lines, strict=True))


def test_a_number_comes_as_it_is_from_text_classification(tmp_path):
    export, pairs = predicted("regression", tmp_path)
    score = pipeline("text-classification", model=export, device="cpu")
    for row, line in pairs:
        (answer,) = score([row.texts[0]])
        assert answer["label"] == "score"
        assert answer["score"] == pytest.approx(line["prediction"], abs=1e-3)


def test_several_labels_come_with_a_probability_each(tmp_path):
    export, pairs = predicted("multi_label", tmp_path)
    classify = pipeline("text-classification", model=export, device="cpu", top_k=None)
    for row, line in pairs:
        found = {each["label"]: each["score"] for each in classify([row.texts[0]])[0]}
        assert found == pytest.approx(line["probabilities"], abs=1e-3)
        assert sorted(name for name, score in found.items() if score >= 0.5) == sorted(line["prediction"])


def test_the_tags_of_token_classification_are_those_of_the_first_piece_of_every_word(tmp_path):
    export, pairs = predicted("tagging", tmp_path)
    tag = pipeline("token-classification", model=export, device="cpu", ignore_labels=[])
    for row, line in pairs:
        text = " ".join(row.texts)
        starts = {len(" ".join([*row.texts[:number], ""])): number for number in range(len(row.texts))}
        found = {starts[each["start"]]: each["entity"] for each in tag(text) if each["start"] in starts}
        assert [found[number] for number in range(len(row.texts))] == line["prediction"]


def test_the_best_span_is_where_start_and_end_score_highest(tmp_path):
    # transformers 5 has no pipeline for questions any more.
    export, pairs = predicted("span_qa", tmp_path)
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(export), AutoTokenizer.from_pretrained(export)
    for row, line in pairs:
        question, context = row.texts
        inputs = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
        offsets, owners = inputs.pop("offset_mapping")[0], inputs.sequence_ids(0)
        with torch.no_grad():
            outputs = model(**inputs)
        scores_SS = outputs.start_logits[0][:, None] + outputs.end_logits[0][None, :]
        in_context_S = torch.tensor([owner == 1 for owner in owners])
        allowed_SS = (in_context_S[:, None] & in_context_S[None, :]).triu()
        best = int(scores_SS.masked_fill(~allowed_SS, -1e9).argmax())
        start, end = divmod(best, len(owners))
        assert line["best_span"] == context[int(offsets[start, 0]) : int(offsets[end, 1])]


def test_the_choice_is_that_of_the_highest_score(tmp_path):
    export, pairs = predicted("multiple_choice", tmp_path)
    model, tokenizer = AutoModelForMultipleChoice.from_pretrained(export), AutoTokenizer.from_pretrained(export)
    for row, line in pairs:
        context, *choices = row.texts
        inputs = tokenizer([context] * len(choices), choices, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**{name: values[None] for name, values in inputs.items()}).logits
        assert line["prediction"] == int(logits.argmax())
