"""Entity F1: conlleval.pl's quirks by hand, its state machine and seqeval at random, in every scheme."""

import random
from collections import Counter

import pytest
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as seqeval_default
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_strict
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES

from bertkit.errors import TaskError
from bertkit.tasks.scoring import detect_scheme, score

SCHEMES = {"IOB1": IOB1, "IOB2": IOB2, "IOBES": IOBES, "BILOU": BILOU}
LETTERS = {"IOB1": "IB", "IOB2": "IB", "IOBES": "IBES", "BILOU": "IBLU"}


def tag_at_random(rng, letters, types):
    return "O" if rng.random() < 0.3 else f"{rng.choice(letters)}-{rng.choice(types)}"


def sentences_at_random(seed, letters):
    """References and predictions that agree on most tags; hardly one of them is lawful in any scheme."""
    rng = random.Random(seed)
    types = ["PER", "LOC", "creative-work"][: rng.randint(1, 3)]
    golds = [[tag_at_random(rng, letters, types) for _ in range(rng.randint(0, 9))] for _ in range(rng.randint(1, 30))]
    golds.append([f"{letters[-1]}-PER", f"{letters[0]}-PER", "O"])
    guesses = [[gold if rng.random() < 0.7 else tag_at_random(rng, letters, types) for gold in row] for row in golds]
    return guesses, golds


def conlleval(guesses, golds):
    """The walk of the script over the lines, for B, I and O: chunks by type."""

    def split(tag):
        letter, _, kind = tag.partition("-")
        return letter, kind

    def ends(before, now):
        return before[0] != "O" and (now[0] in "OB" or before[1] != now[1])

    def starts(before, now):
        return now[0] != "O" and (now[0] == "B" or before[0] == "O" or before[1] != now[1])

    found = {"gold": Counter(), "predicted": Counter(), "correct": Counter()}
    last_gold = last_guess = ("O", "")
    in_correct = False
    lines = [
        pair
        for guess, gold in zip(guesses, golds, strict=True)
        for pair in [*zip(guess, gold, strict=True), ("O", "O")]
    ]
    for guess, gold in ((split(guess), split(gold)) for guess, gold in lines):
        if in_correct:
            gold_ends, guess_ends = ends(last_gold, gold), ends(last_guess, guess)
            if gold_ends and guess_ends:
                found["correct"][last_gold[1]] += 1
            if gold_ends or guess_ends or gold[1] != guess[1]:
                in_correct = False
        if starts(last_gold, gold) and starts(last_guess, guess) and gold[1] == guess[1]:
            in_correct = True
        found["gold"][gold[1]] += starts(last_gold, gold)
        found["predicted"][guess[1]] += starts(last_guess, guess)
        last_gold, last_guess = gold, guess
    return found


@pytest.mark.parametrize("seed", range(60))
def test_entity_counts_equal_the_walk_of_conlleval(seed):
    guesses, golds = sentences_at_random(seed, "BI")
    figures, found = score("tagging", guesses, golds), conlleval(guesses, golds)
    for name, counts in found.items():
        assert figures[name] == counts.total()
        for kind, row in figures["per_type"].items():
            assert row[name] == counts[kind]
    assert figures["precision"] == pytest.approx(found["correct"].total() / max(1, found["predicted"].total()))
    assert figures["recall"] == pytest.approx(found["correct"].total() / max(1, found["gold"].total()))


@pytest.mark.parametrize(
    ("golds", "guesses", "gold", "predicted", "correct"),
    [
        pytest.param("I-PER I-PER O", "B-PER I-PER O", 1, 1, 1, id="an I after O starts a chunk: IOB1 equals IOB2"),
        pytest.param("I-PER I-LOC", "B-PER B-LOC", 2, 2, 2, id="another type starts a chunk without a B"),
        pytest.param("I-PER B-PER", "I-PER I-PER", 2, 1, 0, id="a B parts two chunks of one type"),
        pytest.param("B-PER O I-PER", "B-PER I-PER I-PER", 2, 1, 0, id="an O between makes two chunks"),
        pytest.param("B-PER I-PER I-PER", "B-PER I-PER O", 1, 1, 0, id="a chunk cut short is wrong"),
        pytest.param("B-PER I-PER", "B-LOC I-PER", 1, 2, 0, id="a type changed inside is two chunks"),
        pytest.param("O O", "O B-PER", 0, 1, 0, id="nothing to find"),
        pytest.param("B-a-b I-a-b", "B-a-b I-a-b", 1, 1, 1, id="a type may hold hyphens"),
        pytest.param("B I O", "B I B", 1, 2, 1, id="tags without a type"),
    ],
)
def test_the_quirks_of_conlleval_by_hand(golds, guesses, gold, predicted, correct):
    figures = score("tagging", [guesses.split()], [golds.split()])
    assert (figures["gold"], figures["predicted"], figures["correct"]) == (gold, predicted, correct)


def test_overall_and_by_type_are_counted_as_conlleval_prints_them():
    # processed 7 tokens with 3 phrases; found: 3 phrases; correct: 2. accuracy: 85.71%; FB1: 66.67
    golds, guesses = (
        [["B-NP", "I-NP", "B-VP", "O"], ["B-NP", "O", "O"]],
        [["B-NP", "I-NP", "B-NP", "O"], ["B-NP", "O", "O"]],
    )
    figures = score("tagging", guesses, golds)
    assert figures["accuracy"] == pytest.approx(6 / 7)
    assert [figures[name] for name in ("f1", "precision", "recall")] == pytest.approx([2 / 3] * 3)
    assert figures["num_tokens"] == 7
    assert figures["per_type"]["VP"] == {"precision": 0, "recall": 0, "f1": 0, "correct": 0, "predicted": 0, "gold": 1}
    assert figures["per_type"]["NP"]["precision"] == pytest.approx(2 / 3)


def test_a_chunk_does_not_cross_the_end_of_a_sentence():
    figures = score("tagging", [["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]])
    assert (figures["gold"], figures["correct"]) == (2, 2)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(40))
def test_strict_figures_equal_seqeval_however_broken_the_tags(scheme, seed):
    guesses, golds = sentences_at_random(seed, LETTERS[scheme])
    figures = score("tagging", guesses, golds, scheme=scheme)
    precision, recall, f1, _ = seqeval_strict(golds, guesses, average="micro", scheme=SCHEMES[scheme], zero_division=0)
    names = ("strict_precision", "strict_recall", "strict_f1")
    assert [figures[name] for name in names] == pytest.approx([precision, recall, f1])


@pytest.mark.parametrize("seed", range(40))
def test_lenient_figures_of_iobes_equal_seqeval_by_default_and_bilou_is_the_same_in_other_letters(seed):
    guesses, golds = sentences_at_random(seed, "IBES")
    figures = score("tagging", guesses, golds, scheme="IOBES")
    expected = seqeval_default(golds, guesses, average="micro", zero_division=0)[:3]
    assert [figures[name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    letters = str.maketrans({"E": "L", "S": "U"})
    bilou = [[[tag[0].translate(letters) + tag[1:] for tag in row] for row in side] for side in (guesses, golds)]
    assert score("tagging", *bilou, scheme="BILOU") == figures


def test_strict_and_lenient_part_where_a_chunk_lacks_its_b():
    figures = score("tagging", [["I-PER", "O", "B-LOC"]], [["B-PER", "O", "B-LOC"]])
    assert (figures["f1"], figures["strict_f1"]) == (1.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("I-PER I-PER O B-LOC", "IOB2"),
        ("I-PER B-PER O I-LOC", "IOB1"),
        ("I-PER I-LOC", "IOB1"),
        ("B-PER I-PER", "IOB2"),
        ("O O", "IOB2"),
        ("B-PER E-PER S-LOC", "IOBES"),
        ("B-PER L-PER U-LOC", "BILOU"),
    ],
)
def test_the_scheme_is_detected(tags, scheme):
    assert detect_scheme([tags.split()]) == scheme


def test_parts_of_speech_have_their_accuracy_as_the_one_figure():
    guesses, golds = [["DET", "VERB"], ["ADP"]], [["DET", "NOUN"], ["ADP"]]
    assert score("tagging", guesses, golds) == {"accuracy": pytest.approx(2 / 3)}
    assert score("tag_accuracy", guesses, golds) == {"tag_accuracy": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("guesses", "golds", "options", "message"),
    [
        ([["O"]], [["O", "O"]], {}, "sentence 1 has 1 predicted tags for 2 reference tags"),
        ([[]], [[]], {}, "no sentence has a tag"),
        (["O"], ["O"], {}, "sentence 1 is one text"),
        ([["X-PER"]], [["B-PER"]], {}, "tag 'X-PER' is not written in IOB2"),
        ([["Back"]], [["B-PER"]], {}, "tag 'Back' is not a chunk's"),
        ([["S-PER"]], [["B-PER"]], {"scheme": "IOB2"}, "tag 'S-PER' is not written in IOB2: its letters are I, O, B"),
        ([["O"]], [["B-PER"]], {"scheme": "IOBE"}, "no tag scheme is called 'IOBE': did you mean 'IOBES'?"),
        ([["U-PER"]], [["S-PER"]], {}, "mix the letters of IOBES"),
        ([[None]], [["O"]], {}, "not text"),
    ],
)
def test_tags_that_cannot_be_scored_are_refused_with_the_reason(guesses, golds, options, message):
    with pytest.raises(TaskError) as caught:
        score("tagging", guesses, golds, **options)
    assert message in str(caught.value)
