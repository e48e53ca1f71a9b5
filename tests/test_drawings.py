"""The drawings of the documentation show what the models do, can be read by everybody, and fit their boxes."""

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/architectures.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
NAMES = re.findall(r"<!-- architecture: (.+?) -->", PAGE)
# Of the 11 pixels a letter is high.
LETTER_WIDTH = 5.2


@pytest.fixture
def drawings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("drawings")


@pytest.fixture
def shapes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("shapes")


def drawn(figure):
    return ElementTree.fromstring("".join(figure)).find(f"{SVG}svg")


def every_drawing(drawings):
    (pair,) = re.findall(r"<!-- input_representation: (.+?) -->", PAGE)
    assert "<!-- directions -->" in PAGE
    return [
        drawn(each)
        for each in (
            drawings.input_representation(pair),
            drawings.directions(),
            *(drawings.architecture(name) for name in NAMES),
        )
    ]


def test_every_architecture_is_on_the_page(shapes):
    assert sorted(NAMES) == sorted(shapes.ARCHITECTURES)
    assert {known.problem for known in shapes.ARCHITECTURES.values()} == {
        *("classification", "span_qa", "tagging", "multiple_choice")
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_shapes_of_a_drawing_are_those_that_a_batch_really_has(drawings, shapes, name):
    import torch

    from bertkit.data.features import collate_features
    from bertkit.model import BertKitConfig
    from bertkit.tasks.problem import ProblemOptions, encoder_inputs
    from bertkit.tasks.problems import PROBLEMS
    from bertkit.tasks.spec import Example

    known = shapes.ARCHITECTURES[name]
    problem = PROBLEMS[known.problem]
    examples = [Example(str(n), "", texts) for n, texts in enumerate(known.examples)]
    features = problem.featurize(examples, shapes._encoder(), ProblemOptions(labels=known.labels), False)
    batch = collate_features(features, np.arange(features.num_groups))
    size = {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 99,
    }
    bilstm = known.bilstm and {**known.bilstm, "size": 4}
    model = problem.model_class(BertKitConfig(**size, num_labels=len(known.labels) or 2, bilstm=bilstm)).eval()
    choices = {"num_choices": 2} if known.problem == "multiple_choice" else {}
    with torch.no_grad():
        outputs = model(**encoder_inputs(batch), **choices)
    words = " ".join(text.text for text in drawn(drawings.architecture(name)).iter(f"{SVG}text"))
    logits = [value for part, value in outputs.items() if part.endswith("logits")]
    assert len(logits) == (2 if known.problem == "span_qa" else 1)
    for value in logits:
        assert f"= [{', '.join(map(str, value.shape))}]" in words
    tokens, instances = len(batch["input_ids"]), len(batch["cu_seqlens"]) - 1
    assert f"T = {tokens} tokens, I = {instances} instances" in words
    width = 2 * known.bilstm["size"] if known.bilstm else 768
    assert f"= [{tokens}, {width}]" in words


def test_directions_are_those_of_the_models(shapes):
    every, earlier = np.ones((4, 4), bool), np.tri(4, dtype=bool)
    assert (shapes.visible("bidirectional", 4) == every).all()
    assert (shapes.visible("left-to-right", 4) == earlier).all()
    assert (shapes.visible("bilm", 4) == [earlier, earlier.T]).all()


def test_drawings_have_words_for_who_cannot_see_them_and_names_of_their_own(drawings):
    svgs = every_drawing(drawings)
    assert len(svgs) == 2 + len(NAMES)
    for svg in svgs:
        named = svg.get("aria-labelledby").split()
        told = [each for each in (svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")) if len(each.text) > 5]
        assert svg.get("role") == "img"
        assert [each.get("id") for each in told] == named
    ids = [each.get("id") for svg in svgs for each in svg.iter() if each.get("id")]
    assert len(set(ids)) == len(ids)


def test_drawings_take_their_colours_from_the_page_and_their_words_fit(drawings):
    for svg in every_drawing(drawings):
        assert "fill=" not in ElementTree.tostring(svg, encoding="unicode")
        *_, width, height = map(float, svg.get("viewBox").split())
        boxes = [
            tuple(float(rect.get(each)) for each in ("x", "y", "width", "height")) for rect in svg.iter(f"{SVG}rect")
        ]
        assert boxes
        for x, y, wide, high in boxes:
            assert x >= 0
            assert x + wide <= width
            assert y + high <= height
        for text in svg.iter(f"{SVG}text"):
            x, y = float(text.get("x")), float(text.get("y"))
            assert 0 < y < height
            inside = [b for b in boxes if b[0] < x < b[0] + b[2] and b[1] < y < b[1] + b[3]]
            for box in inside:
                assert len(text.text) * LETTER_WIDTH <= box[2], text.text
