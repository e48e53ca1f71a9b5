"""What is wrong with labelled examples: every finding is a sentence with rows and remedy, an error only where due."""

import numpy as np
import pytest

from bertkit.data.texts import Pieces
from bertkit.tasks.check import balanced_weights, check_examples
from bertkit.tasks.check_forms import first_broken_rule
from bertkit.tasks.spec import Answer, Example


class WordEncoder:
    """A piece a word."""

    def encode(self, texts):
        return [Pieces(np.zeros(len(text.split()), np.int32)) for text in texts]


def examples_of(*rows, file="train.csv"):
    """Examples of (texts, label), on the lines of a file with a header."""
    texts = [(row[0],) if isinstance(row[0], str) else tuple(row[0]) for row in rows]
    places = [f"{file}:{number}" for number in range(2, len(rows) + 2)]
    return [Example(place, place, text, row[1]) for place, text, row in zip(places, texts, rows, strict=True)]


def classes(counts, **where):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return examples_of(*((f"text {n}", label) for n, label in enumerate(labels)), **where)


def sentence(report, severity, part):
    """The one sentence of this severity that holds `part`."""
    (found,) = [finding.sentence for finding in report.of(severity) if part in finding.sentence]
    return found


def check(train, problem="classification", **evaluate):
    return check_examples(train, evaluate, problem)


GOOD = {
    "classification": classes({"a": 10, "b": 10}),
    "regression": examples_of(("x", 1.0), ("y", 2.5)),
    "multi_label": examples_of(*((f"x {n}", ("a", "b") if n % 2 else ()) for n in range(20))),
    "tagging": examples_of((("Rome", "fell"), ("B-LOC", "O"))),
    "span_qa": examples_of((("What?", "Rome fell."), (Answer("Rome", 0),))),
    "multiple_choice": examples_of((("It is", "hot", "cold"), 1)),
}


@pytest.mark.parametrize("problem", GOOD)
def test_good_data_has_notes_at_most(problem):
    report = check_examples(GOOD[problem], {}, problem, encoder=WordEncoder())
    assert [finding.severity for finding in report.findings] == ["note"] * len(report.findings)
    assert report.errors == ()
    assert all(said.startswith("note: ") for said in report.sentences())


@pytest.mark.parametrize("problem", GOOD)
def test_no_examples_are_an_error_and_nothing_worse(problem):
    report = check_examples([], {"dev": []}, problem, encoder=WordEncoder())
    assert {"train has no examples: give a file with one row an example"} <= {f.sentence for f in report.errors}


def test_errors_come_first():
    report = check(examples_of(("a", None), ("a", None), ("b", "x"), ("c", "y")))
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


def test_five_rows_are_named_and_the_others_counted():
    report = check(examples_of(*((f"text {n}", None) for n in range(17)), ("b", "x"), ("c", "y")))
    said = sentence(report, "error", "no label")
    assert said.startswith("17 of 19 rows of train have no label (train.csv:2, train.csv:3, ")
    assert "train.csv:6 and 12 more)" in said
    assert len(report.errors[0].rows) == 17


def test_empty_texts_are_a_warning_unless_all_are():
    some = check(examples_of((" ", "x"), ("b", "y")))
    assert "train.csv:2" in sentence(some, "warning", "empty text")
    pairs = check(examples_of((("a", ""), "x"), (("b", "c"), "y")))
    assert "train.csv:2" in sentence(pairs, "warning", "empty text")
    every = check(examples_of(("", "x"), (" ", "y")))
    assert "--text" in sentence(every, "error", "empty text")


def test_duplicates_with_one_label_and_with_two_are_told_apart():
    report = check(examples_of(("a", "x"), ("a", "x"), ("b", "x"), ("b", "y")))
    assert "(train.csv:3)" in sentence(report, "warning", "repeat an earlier one")
    conflict = sentence(report, "warning", "different labels")
    assert "train.csv:4 'x' and train.csv:5 'y'" in conflict
    assert "decide on one" in conflict


def test_texts_on_both_sides_are_named_with_both_rows():
    train = classes({"a": 10, "b": 10})
    dev = examples_of(("new", "a"), ("text 3", "a"), file="dev.csv")
    assert "dev.csv:3 as train.csv:5" in sentence(check(train, dev=dev), "warning", "trained on")


def test_contexts_on_both_sides_are_a_note():
    answer = (Answer("Rome", 0),)
    dev = examples_of((("Who?", "Rome fell."), answer), file="dev.csv")
    assert "dev.csv:2" in sentence(check(GOOD["span_qa"], "span_qa", dev=dev), "note", "context")


def test_unseen_labels_are_a_warning_and_an_error_where_none_is_shared():
    train = classes({"good": 10, "bad": 10})
    some = check(train, dev=examples_of(("x", "good"), ("y", "God"), file="dev.csv"))
    assert "'God' may be 'good'" in sentence(some, "warning", "never sees")
    none = check(train, dev=examples_of(("x", "1"), file="dev.csv"))
    assert "dev.csv:2" in sentence(none, "error", "never sees")


def test_labels_that_the_task_has_not_are_an_error():
    report = check_examples(classes({"a": 10, "b": 10, "c": 1}), {}, "classification", labels=("a", "b"))
    assert "train.csv:22" in sentence(report, "error", "the task has not: c")


def test_labels_that_differ_in_capitals_are_a_warning():
    assert "'Good' and 'good '" in sentence(check(classes({"Good": 9, "good ": 9, "bad": 9})), "warning", "capitals")


def test_one_class_is_an_error_and_few_examples_a_warning():
    assert "train.csv:2" in sentence(check(classes({"a": 10})), "error", "same label")
    assert "b 3 (train.csv:12)" in sentence(check(classes({"a": 10, "b": 3})), "warning", "fewer than 8")


def test_an_unbalanced_set_is_warned_of_with_the_weights_that_balance_it():
    report = check(classes({"a": 30, "b": 10}))
    assert "a 0.67, b 2.00" in sentence(report, "warning", "from 'b' (10 rows, 25.0 %)")
    assert report.labels == ("a", "b")
    assert report.class_weights == pytest.approx((2 / 3, 2.0))
    assert "10 rows each" in sentence(check(classes({"a": 10, "b": 10})), "note", "2 labels")


def test_balanced_weights_make_classes_equal_and_have_mean_1():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    labels = ["a"] * 7 + ["b"] * 2 + ["c"] * 5
    weights = balanced_weights(labels, ("a", "b", "c"))
    assert weights == pytest.approx(sklearn.compute_class_weight("balanced", classes=np.array(list("abc")), y=labels))
    by_name = dict(zip("abc", weights, strict=True))
    assert np.mean([by_name[label] for label in labels]) == pytest.approx(1)
    absent = dict(zip("abcd", balanced_weights(labels, tuple("abcd")), strict=True))
    assert absent == pytest.approx(by_name | {"d": 1.0})


def test_numbers_must_be_finite_and_differ():
    assert "train.csv:3" in sentence(
        check(examples_of(("a", 1.0), ("b", float("nan"))), "regression"), "error", "finite"
    )
    same = check(examples_of(("a", 1.0), ("b", 1.0)), "regression")
    assert "--label" in sentence(same, "error", "same number")
    assert "from 1 to 4, 2.5 in the mean" in sentence(
        check(examples_of(("a", 1), ("b", 4)), "regression"), "note", "go"
    )


# --- lengths --------------------------------------------------------------------------------------------------------


def of_lengths(*lengths, problem="classification"):
    train = examples_of(
        *((" ".join(f"{n}w" for n in range(length)) + f" {i}", "ab"[i % 2]) for i, length in enumerate(lengths))
    )
    return check_examples(train, {}, problem, encoder=WordEncoder(), max_seq_length=16)


def test_the_share_that_is_cut_is_stated_with_the_length_that_would_hold_it():
    # One word more for the number of the example, and two special tokens.
    report = of_lengths(*[5] * 90, *[20] * 10)
    said = sentence(report, "warning", "lose what is beyond")
    assert said.startswith("10 of 100 examples of train (10.0 %) are longer than max_seq_length 16")
    assert said.endswith("max_seq_length=23 would hold 99 %")
    assert report.lengths.percentiles == {50: 8, 90: 8, 95: 23, 99: 23}
    assert sum(report.lengths.bins) == report.lengths.num_examples == 100
    assert "longest 23" in sentence(report, "note", "tokens of an example")


def test_lengths_beyond_what_bert_reads_want_windows():
    assert "long_inputs=windows" in sentence(of_lengths(600, 700), "warning", "lose what is beyond")


def test_nothing_is_said_of_cutting_where_nothing_is_cut():
    assert not [said for said in of_lengths(5, 6).sentences() if "longer" in said]


def test_windows_lose_nothing():
    train = examples_of((tuple("abcdefghijklmnop"), ("O",) * 15 + ("B-X",)))
    report = check_examples(train, {}, "tagging", encoder=WordEncoder(), max_seq_length=16)
    assert "nothing is lost" in sentence(report, "note", "longer than")


@pytest.mark.parametrize(
    ("problem", "texts", "length"),
    [
        ("classification", ("a b",), 4),
        ("classification", ("a b", "c"), 6),
        ("tagging", ("a", "b", "c"), 5),
        ("span_qa", ("a b", "c d e"), 8),
        ("multiple_choice", ("a b", "c", "d e"), 7),
    ],
)
def test_special_tokens_count(problem, texts, length):
    train = [Example("1", "t:1", texts)]
    assert check_examples(train, {}, problem, encoder=WordEncoder()).lengths.longest == length


# --- tags, answers, choices -----------------------------------------------------------------------------------------

BROKEN_TAGS = [
    ("IOB2", "O I-A", "word 2 I-A"),
    ("IOB2", "B-A I-B", "word 2 I-B"),
    ("IOB2", "I-A", "word 1 I-A"),
    ("IOB2", "B-A I-A O B-B B-B", ""),
    ("IOB1", "I-A I-B O I-A", ""),
    ("IOBES", "S-A B-A I-A E-A O", ""),
    ("IOBES", "B-A O", "word 2 O"),
    ("IOBES", "E-A", "word 1 E-A"),
    ("IOBES", "B-A E-B", "word 2 E-B"),
    ("IOBES", "B-A", "word 1 B-A at the end"),
    ("IOBES", "S-A E-A", "word 2 E-A"),
    ("IOBES", "B-A M-A L-A U-A", ""),
    ("none", "NOUN I-A", ""),
]


@pytest.mark.parametrize(("scheme", "tags", "fault"), BROKEN_TAGS)
def test_a_broken_sequence_is_told_by_its_first_wrong_tag(scheme, tags, fault):
    assert first_broken_rule(tags.split(), scheme) == fault


def test_broken_sequences_are_a_warning_with_sentence_and_word():
    good = [(("a", "b"), ("B-A", "I-A"))] * 5
    report = check(examples_of(*good, (("a", "b"), ("O", "I-A"))), "tagging")
    assert "train.csv:7 word 2 I-A" in sentence(report, "warning", "rules of IOB2")
    assert sentence(report, "note", "tags follow") == "tags follow IOB2"


def test_mixed_schemes_are_a_warning():
    train = examples_of((("a", "b"), ("B-A", "I-A")), (("a", "c"), ("B-A", "B-A")))
    dev = examples_of((("d", "e"), ("B-A", "E-A")), file="dev.csv")
    assert "train in IOB2; dev in IOBES" in sentence(check(train, "tagging", dev=dev), "warning", "different schemes")


def test_a_tag_too_few_is_an_error():
    report = check(examples_of((("a", "b"), ("B-A",)), (("c",), ("O",))), "tagging")
    assert "train.csv:2 with 2 words and 1 tags" in sentence(report, "error", "one tag a word")


def test_answers_must_stand_where_they_say():
    context = "So Rome fell."
    train = examples_of(
        (("a", context), (Answer("Rome", 3),)),
        (("b", context), (Answer("Rome", 4),)),
        (("c", context), (Answer("Paris", 3),)),
        (("d", context), (Answer("fell.", 99),)),
        (("e", context), (Answer("Rome", -1),)),
        (("f", context), (Answer("", 0),)),
        (("g", context), ()),
    )
    said = sentence(check(train, "span_qa"), "error", "do not stand")
    assert said.startswith("5 of 6 answers of train")
    assert "train.csv:3 'Rome' at 3, not at 4" in said
    assert "train.csv:4 'Paris' nowhere in the context" in said
    assert "train.csv:5 'fell.' at 8, not at 99" in said
    assert "train.csv:7 has an empty answer" in said
    assert "(14.3 %)" in sentence(check(train, "span_qa"), "note", "have no answer")
    assert not check(GOOD["span_qa"], "span_qa", dev=train).errors


def test_choices_must_be_two_different_and_hold_the_right_one():
    train = examples_of(
        (("c", "a", "b"), 2), (("d", "a", "a"), 1), (("e", "a", " "), 1), (("f", "a"), 0), (("g", "a", "b", "c"), 1)
    )
    report = check(train, "multiple_choice")
    assert "train.csv:2 says 2 of 2" in sentence(report, "error", "not there")
    assert "train.csv:5" in sentence(report, "error", "fewer than two")
    assert "train.csv:3" in sentence(report, "warning", "the same")
    assert "train.csv:4" in sentence(report, "warning", "empty choice")
    assert "1, 2, 3" in sentence(report, "note", "different numbers")


def test_choices_counted_from_one_are_recognised():
    train = examples_of((("c", "a", "b"), 1), (("d", "a", "b"), 2))
    assert "take 1 from each" in sentence(check(train, "multiple_choice"), "error", "not there")
