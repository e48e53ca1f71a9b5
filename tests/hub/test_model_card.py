"""A card is what the Hub takes for one, and says what it was given, whatever characters are in it."""

from dataclasses import replace

import pytest
import yaml
from hub_server import _CARD, _metadata_errors
from huggingface_hub import ModelCard

from bertkit.hub.card import CardContent, Data, Scored, build_card, is_own

CONTENT = CardContent(
    repo_id="ann/bert-cola",
    about="Text classification.",
    pipeline_tag="text-classification",
    task_name="Text classification",
    tags=["bert"],
    data=Data("glue/cola", hub_id="nyu-mll/glue", config="cola"),
    scored=[
        Scored("validation", "Matthews correlation", "matthews_correlation", 0.512345678, "51.23 %", "50.0 % ± 1.0 %"),
        Scored("test", "Accuracy", "accuracy", 0.8, "80.00 %"),
    ],
    usage="print(1)\n",
    trained=[("seed", "3"), ("data", "a|b.csv")],
    command="bertkit finetune glue cola",
    config="seed: 3\n",
    limits=["It is <b>small</b>."],
    datasets=["nyu-mll/glue"],
    base_model="google-bert/bert-base-uncased",
    language="en",
    license="mit",
)


def metadata(card):
    return yaml.safe_load(_CARD.match(card.content)[1])


def test_the_metadata_is_what_the_hub_asks_for():
    found = metadata(build_card(CONTENT))
    assert _metadata_errors(found) == []
    assert {key: found[key] for key in ("library_name", "pipeline_tag", "base_model", "license", "language")} == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "google-bert/bert-base-uncased",
        "license": "mit",
        "language": "en",
    }
    assert found["tags"] == ["bertkit", "bert"]


def test_the_model_index_names_task_dataset_split_and_metric():
    results = metadata(build_card(CONTENT))["model-index"][0]
    assert results["name"] == "bert-cola"
    assert results["results"][0] == {
        "task": {"type": "text-classification", "name": "Text classification"},
        "dataset": {"name": "glue/cola", "type": "nyu-mll/glue", "config": "cola", "split": "validation"},
        "metrics": [{"type": "matthews_correlation", "value": 0.512346, "name": "Matthews correlation"}],
    }
    assert results["results"][1]["dataset"]["split"] == "test"


def test_huggingface_hub_reads_the_card_back_and_writes_the_same():
    card = build_card(CONTENT)
    again = ModelCard(card.content)
    assert again.data.to_dict() == card.data.to_dict()
    assert again.content == card.content
    assert [each.metric_value for each in again.data.eval_results] == [0.512346, 0.8]


def test_text_of_the_user_is_text_and_no_markup():
    text = build_card(replace(CONTENT, repo_id="ann/x", notes=["a [link](http://x) | cell"])).content
    assert "| data | a\\|b.csv |" in text
    assert "&lt;b>small" in text
    assert "[link]" not in text.replace("\\[link]", "")


def test_escapes_and_code_of_the_user_are_text_too():
    found = build_card(replace(CONTENT, limits=["a\\|b `c`"], config="a: '```'\n", command="echo ````")).content
    assert "- a\\\\\\|b \\`c\\`" in found
    assert "````yaml\na: '```'\n````\n" in found
    assert "`````bash\necho ````\n`````\n" in found


def test_a_card_knows_whether_anybody_changed_it():
    content = build_card(CONTENT).content.encode()
    assert is_own(content)
    assert not is_own(content.replace(b"Text classification.", b"Text classification!"))
    assert not is_own(content + b"\nMore.\n")
    assert not any(is_own(other) for other in (b"", b"\n", b"# x", b"---\nlicense: mit\n---\n"))


def test_columns_that_nothing_is_known_for_are_left_out():
    text = build_card(replace(CONTENT, scored=CONTENT.scored[1:])).content
    assert "mean ± deviation" not in text
    assert "to beat" not in text
    assert "mean ± deviation" in build_card(CONTENT).content


def test_a_model_without_scores_has_no_model_index_and_says_so():
    card = build_card(replace(CONTENT, scored=[]))
    assert "model-index" not in metadata(card)
    assert "It was not scored" in card.content


@pytest.mark.parametrize("image", [None, "plots/loss.png"])
def test_the_picture_is_shown_where_there_is_one(image):
    text = build_card(replace(CONTENT, image=image)).content
    assert ("![Training curves](plots/loss.png)" in text) == (image is not None)


def test_tables_are_tables():
    lines = build_card(CONTENT).content.splitlines()
    start = lines.index("| split | figure | this model | mean ± deviation |")
    assert [line.count("|") for line in lines[start : start + 4]] == [5, 5, 5, 5]
    assert lines[start + 4] == ""
