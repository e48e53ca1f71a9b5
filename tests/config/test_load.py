"""Recipes and settings: strict, typed, and helpful when wrong."""

import pytest
import yaml

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import (
    describe_schema,
    differing_keys,
    dump_config,
    find_recipe,
    list_finetuning_recipes,
    list_recipes,
    load_config,
    validate_config,
)
from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError

MINIMAL = {"train": {"max_steps": 10}}


def write(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def config(**changes):
    return validate_config(PretrainConfig, MINIMAL | changes, source="test")


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda path: path.stem)
def test_every_recipe_loads_and_its_header_says_what_it_promises(recipe):
    load_config(PretrainConfig, recipe)
    header = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Command:", "Hardware:", "Expected:", "Measured:"):
        assert any(word in line for line in header), f"{recipe.name} has no {word}"
    assert f"--recipe {recipe.stem}" in "".join(header) or recipe.stem == "demo"


@pytest.mark.parametrize("recipe", list_finetuning_recipes(), ids=lambda path: path.stem)
def test_every_recipe_of_fine_tuning_loads_too(recipe):
    load_config(FinetuneConfig, recipe)
    header = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Command:", "Hardware:", "Expected:", "Measured:"):
        assert any(word in line for line in header), f"{recipe.name} has no {word}"
    assert find_recipe(f"finetune/{recipe.stem}") == find_recipe(recipe.stem, finetuning=True) == recipe


def test_the_shipped_recipes_are_these():
    names = {path.stem for path in list_recipes()}
    shapes = {"tiny", "mini", "small", "medium", "base", "large"}
    assert names == shapes | {"demo", "base-original", "base-fast", "tiny-fast", "large-batch"}


def test_settings_win_over_the_recipe_and_options_over_settings(tmp_path):
    recipe = write(tmp_path, "train: {max_steps: 5, seed: 1}\n")
    loaded = load_config(
        PretrainConfig, recipe, settings=["train.seed=2", "optim.learning_rate=1e-3"], options={"train.seed": 3}
    )
    assert (loaded.train.max_steps, loaded.train.seed, loaded.optim.learning_rate) == (5, 3, 1e-3)


def test_an_option_that_was_not_given_changes_nothing(tmp_path):
    recipe = write(tmp_path, "train: {max_steps: 5, seed: 1}\n")
    assert load_config(PretrainConfig, recipe, options={"train.seed": None}).train.seed == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"learning_rat": 1}}, r"unknown key 'optim.learning_rat': did you mean 'learning_rate'\?"),
        ({"optimizer": {}}, r"unknown key 'optimizer': did you mean 'optim'\?"),
        ({"data": {"tokenizer": {"vocabsize": 1}}}, r"'data.tokenizer.vocabsize': did you mean 'vocab_size'\?"),
        ({"train": {"max_steps": 1, "phases": [{"max_seq_len": 9}]}}, r"did you mean 'max_seq_length'\?"),
        ({"optim": {"learning_rate": "fast"}}, "optim.learning_rate: .*number.*'fast'"),
        ({"optim": {"learning_rate": -1}}, "optim.learning_rate: .*greater than 0.*-1"),
        ({"masking": {"mask_share": 0.95}}, "mask_share 0.95 .*random_share 0.1 exceed 1"),
        ({"model": {"hidden_size": 100}}, "hidden_size 100 is not a multiple of model.num_attention_heads 8"),
        ({"train": {}}, "exactly one of train.max_steps, train.epochs, train.max_minutes.*given: none"),
        ({"train": {"max_steps": 1, "epochs": 1}}, "given: train.max_steps and train.epochs"),
        ({"train": {"max_steps": 1, "phases": [{"share": 0.5}]}}, "shares of train.phases must add up to 1"),
        (
            {"train": {"max_steps": 1, "phases": [{"max_seq_length": 1024}]}},
            "max_seq_length 1024 exceeds model.max_position_embeddings 512: lower the first or raise the second",
        ),
        (
            {"model": {"vocab_size": 100}},
            "data.tokenizer.vocab_size 30522 exceeds model.vocab_size 100: lower the first",
        ),
        ({"optim": {"warmup_steps": 1.5}}, "warmup_steps 1.5 is neither"),
        ({"every": {"trackers": ["wandbb"]}}, "every.trackers"),
    ],
)
def test_a_wrong_value_gives_one_sentence_that_names_the_key(values, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(PretrainConfig, MINIMAL | values, source="mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not valid YAML"),
        ("- a\n- b\n", "must hold sections such as 'train:', not a list"),
        ("train: !!python/object:os.system {}\n", "is not valid YAML"),
    ],
)
def test_a_recipe_that_is_no_recipe_is_an_error(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(PretrainConfig, write(tmp_path, text))


@pytest.mark.parametrize("setting", ["train.seed", "=1", "train.seed.more=1", "train.seed=[", "train=5"])
def test_a_setting_that_makes_no_sense_is_an_error(tmp_path, setting):
    with pytest.raises(ConfigError):
        load_config(PretrainConfig, write(tmp_path, "train: {max_steps: 5, seed: 1}\n"), settings=[setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr=3", "lr: unknown key: did you mean 'optim.learning_rate'?"),
        ("optim.lr=3", "optim.lr: unknown key: did you mean 'optim.learning_rate'?"),
        ("optimizer.learning_rate=3", "optimizer.learning_rate: unknown key: did you mean 'optim.learning_rate'?"),
        ("tokenizer.vocab_size=9", "tokenizer.vocab_size: unknown key: did you mean 'data.tokenizer.vocab_size'?"),
        ("vocab_size=9", "vocab_size: unknown key: did you mean 'model.vocab_size' or 'data.tokenizer.vocab_size'?"),
        ("model.dropout=0", "model.dropout: unknown key: did you mean 'model.hidden_dropout_prob'?"),
        ("optim={learning_rat: 1}", "optim.learning_rat: unknown key: did you mean 'optim.learning_rate'?"),
        ("nothing.like.it=1", "nothing.like.it: unknown key"),
    ],
)
def test_an_unknown_key_that_was_set_is_called_so_and_the_nearest_of_all_sections_named(tmp_path, setting, message):
    recipe = write(tmp_path, "train: {max_steps: 5}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(PretrainConfig, recipe, settings=["train.seed=2", setting])
    assert str(raised.value) == f"--set {message}"


def test_keys_in_lists_cannot_be_set_and_are_not_proposed(tmp_path):
    with pytest.raises(ConfigError, match="unknown key$"):
        load_config(PretrainConfig, write(tmp_path, "train: {max_steps: 5}\n"), settings=["max_seq_length=9"])


def test_an_unknown_key_of_the_recipe_is_its_own_whatever_is_set(tmp_path):
    recipe = write(tmp_path, "train: {max_steps: 5}\noptim: {lr: 1}\n")
    with pytest.raises(ConfigError, match=r"^mine.yaml: unknown key 'optim.lr'"):
        load_config(PretrainConfig, recipe, settings=["optim.learning_rate=2"])


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no recipe is called 'smal': did you mean 'small'\?"):
        find_recipe("smal")
    with pytest.raises(ConfigError, match="recipe file mine.yaml does not exist"):
        find_recipe("mine.yaml")


def test_a_config_written_down_is_the_config_read_back():
    first = config(optim={"learning_rate": 3e-4})
    assert PretrainConfig.model_validate(yaml.safe_load(dump_config(first))) == first


def test_only_settings_that_change_the_weights_make_another_run():
    first = config()
    same = config(
        train={"max_steps": 10, "micro_batch_size": 4, "micro_batch_tokens": 99},
        every={"log_steps": 3},
        data={"num_workers": 1},
    )
    assert differing_keys(first, same) == []
    other = config(train={"max_steps": 10, "seed": 5}, masking={"whole_word": True})
    assert differing_keys(first, other) == ["masking.whole_word", "train.seed"]


def test_what_a_setting_of_execution_holds_is_one_too():
    first = config(data={"cluster": {"slurm": {"sbatch_args": {"account": "us"}}}})
    other = config(data={"cluster": {"slurm": {"sbatch_args": {"account": "them", "mem": "4G"}}}})
    assert differing_keys(first, other) == []
    filtered = config(data={"cluster": {"filters": [{"name": "RegexFilter", "arguments": {"regex_exp": "x"}}]}})
    assert "data.cluster.filters.0.name" in differing_keys(first, filtered)


def test_a_phase_may_bound_its_forward_passes_by_itself():
    phases = [{"share": 0.9}, {"share": 0.1, "micro_batch_tokens": 500, "micro_batch_size": 7}]
    train = config(train={"max_steps": 10, "phases": phases, "micro_batch_tokens": None}).train
    assert [train.micro_batch_tokens_of(phase) for phase in (0, 1)] == [None, 500]
    assert [train.micro_batch_of(phase) for phase in (0, 1)] == [None, 7]
    assert config().train.micro_batch_tokens == FinetuneConfig().train.micro_batch_tokens == "auto"


@pytest.mark.parametrize("tokens", [0, "all", 1.5])
def test_tokens_of_a_forward_pass_are_a_number_or_auto(tokens):
    with pytest.raises(ConfigError, match="train.micro_batch_tokens: give a number of tokens, 'auto' or null"):
        config(train={"max_steps": 10, "micro_batch_tokens": tokens})


def test_the_config_of_a_run_begun_before_micro_batches_had_tokens_is_still_that_of_the_same_run():
    old = yaml.safe_load(dump_config(config()))
    del old["optim"]["name"], old["train"]["micro_batch_tokens"]
    for phase in old["train"]["phases"]:
        del phase["micro_batch_tokens"]
    old["train"]["micro_batch_size"] = 32
    read = validate_config(PretrainConfig, old, source="config.yaml")
    assert read.train.micro_batch_of(0) == 32
    assert differing_keys(read, config()) == []


def test_every_setting_is_described():
    rows = describe_schema(PretrainConfig)
    assert all(description for _, _, description in rows)
    assert ("masking.mlm_probability", "0.15") in {row[:2] for row in rows}


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        config().train.seed = 3
