"""The objective and the second segment of a pair always say the same."""

import pytest

from bertkit.config.load import differing_keys, list_recipes, load_config, validate_config
from bertkit.config.schema import PairsConfig, PretrainConfig, TrainConfig
from bertkit.errors import ConfigError


def config(**values) -> PretrainConfig:
    return validate_config(PretrainConfig, {"train": {"max_steps": 10}, **values}, source="test")


@pytest.mark.parametrize(
    ("given", "objective", "second", "direction"),
    [
        ({}, "mlm+nsp", "nsp", "bidirectional"),
        ({"pairs": {"next_sentence": "off"}}, "mlm", "off", "bidirectional"),
        ({"pairs": {"next_sentence": "sop"}}, "mlm+sop", "sop", "bidirectional"),
        ({"objective": "mlm"}, "mlm", "off", "bidirectional"),
        ({"objective": "ltr"}, "ltr", "off", "left-to-right"),
        ({"objective": "ltr+nsp", "pairs": {"short_seq_probability": 0.2}}, "ltr+nsp", "nsp", "left-to-right"),
        ({"objective": "bilm", "pairs": {"next_sentence": "off"}}, "bilm", "off", "bilm"),
    ],
)
def test_either_says_what_the_other_is(given, objective, second, direction):
    made = config(**given)
    assert (made.objective, made.pairs.next_sentence, made.direction) == (objective, second, direction)
    assert made.pairs.short_seq_probability == given.get("pairs", {}).get("short_seq_probability", 0.1)
    assert config(**made.model_dump()) == made


def test_made_in_python_they_agree_too():
    train = TrainConfig(max_steps=10)
    assert PretrainConfig(train=train, pairs=PairsConfig(next_sentence="off")).objective == "mlm"
    assert PretrainConfig(train=train, pairs=PairsConfig(short_seq_probability=0)).objective == "mlm+nsp"
    assert PretrainConfig(train=train, objective="ltr", pairs=PairsConfig()).pairs.next_sentence == "off"


def test_a_contradiction_names_both():
    with pytest.raises(ConfigError, match=r"objective ltr and pairs.next_sentence nsp contradict .* leave out one"):
        config(objective="ltr", pairs={"next_sentence": "nsp"})


@pytest.mark.parametrize("path", list_recipes(), ids=lambda path: path.stem)
@pytest.mark.parametrize("objective", ["ltr", "bilm"])
def test_every_recipe_takes_another_direction(path, objective):
    assert load_config(PretrainConfig, path, settings=[f"objective={objective}"]).objective == objective


@pytest.mark.parametrize(
    "wrong", [{"objective": "gpt"}, {"objective": 3}, {"pairs": {"next_sentence": 3}}, {"pairs": 3}]
)
def test_what_is_neither_is_named(wrong):
    with pytest.raises(ConfigError, match=r"objective|pairs"):
        config(**wrong)


def test_a_run_begun_before_there_was_a_choice_is_still_the_same_run():
    old = config(pairs={"next_sentence": "off"}).model_dump()
    del old["objective"]
    assert differing_keys(config(**old), config(objective="mlm")) == []
    assert differing_keys(config(objective="ltr"), config(objective="mlm")) == ["objective"]
