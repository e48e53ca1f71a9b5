"""Fine-tuning from every family of encoder: left-to-right and biLM beside BERT, with the same settings or a reason."""

import pytest
import torch
from toy_encoder import PIECES
from toy_tasks import toy_config, write_examples
from transformers import BertConfig, BertLMHeadModel, BertTokenizer, set_seed

from bertkit.errors import ConfigError
from bertkit.model import BertKitConfig, BertKitForCausalLM, BiLMConfig, BiLMForPreTraining
from bertkit.model.families import class_for
from bertkit.tasks.problems import PROBLEMS
from bertkit.workflows.finetune import finetune
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.heads import freeze, layer_scale, load_with_head, require_fitting

SHAPE = {
    "vocab_size": len(PIECES),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
KINDS = ("left-to-right", "stock left-to-right", "biLM")


def write_encoder(folder, kind):
    """A pre-trained encoder of a kind, as a run's export or `save_pretrained` leaves it."""
    set_seed(0)
    if kind == "biLM":
        model = BiLMForPreTraining(BiLMConfig(**SHAPE))
    elif kind == "stock left-to-right":
        model = BertLMHeadModel(BertConfig(**SHAPE, num_attention_heads=2, is_decoder=True))
    else:
        model = BertKitForCausalLM(BertKitConfig(**SHAPE, num_attention_heads=2, is_decoder=True, pooled_token="last"))
    model.save_pretrained(folder)
    BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}, do_lower_case=True).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return {kind: write_encoder(tmp_path_factory.mktemp("encoder"), kind) for kind in KINDS}


def config_of(train, folder, problem, **changes):
    return toy_config(train, folder, problem, **{"model__attention_probs_dropout_prob": None, **changes})


@pytest.mark.parametrize("problem", ["classification", "tagging", "span_qa", "multiple_choice"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_is_fine_tuned_on_every_kind_of_head(kind, problem, encoders, tmp_path):
    config = config_of(write_examples(tmp_path, problem), encoders[kind], problem, train__epochs=1)
    results = finetune(config, tmp_path / "run").results
    model = open_finetuned(str(tmp_path / "run")).predictor.model
    assert isinstance(model, class_for(model.config, PROBLEMS[problem].model_class))
    assert (model.config.model_type == "bertkit-bilm") == (kind == "biLM")
    assert results["provenance"]["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_encoder_of_every_family_keeps_every_bit(kind, encoders, tmp_path):
    changes = {"model__freeze": "encoder", "model__bilstm": {"size": 8}, "train__epochs": 1}
    config = config_of(write_examples(tmp_path, "tagging"), encoders[kind], "tagging", **changes)
    finetune(config, tmp_path / "run")
    initial = load_with_head(config.model, PROBLEMS["tagging"], ["O", "B-CAT"], seed=0).bert.state_dict()
    trained = open_finetuned(str(tmp_path / "run")).predictor.model.bert.state_dict()
    assert initial.keys() == trained.keys()
    assert all(torch.equal(initial[name], trained[name]) for name in initial)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_left_to_right_encoder_pools_the_token_that_has_seen_everything(kind, encoders):
    model = load_with_head(config_of("x", encoders[kind], "auto").model, PROBLEMS["classification"], ["a", "b"], seed=0)
    model.eval()
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    changed = ids.clone()
    changed[0, 3] = 8
    assert not torch.equal(model(ids).logits, model(changed).logits)
    assert (model.config.is_decoder, model.config.pooled_token) == (True, "last")


def test_the_layers_of_a_bilm_are_frozen_begun_anew_and_slowed_as_those_of_a_bert_are(encoders):
    def opened(**changes):
        config = config_of("x", encoders["biLM"], "auto", **changes)
        return load_with_head(config.model, PROBLEMS["classification"], ["a", "b"], seed=1)

    kept, anew = opened(), opened(model__reinit_layers=1)
    names = dict(anew.named_parameters())
    for name, parameter in kept.named_parameters():
        if name.startswith(("bert.layers.0.", "bert.embeddings.")):
            assert torch.equal(parameter, names[name]), name
        elif name.startswith("bert.layers.1.") and parameter.ndim > 1:
            assert not torch.equal(parameter, names[name]), name
    freeze(kept, "encoder")
    trained = {name for name, parameter in kept.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in names if name.startswith(("bert.pooler.", "classifier."))}
    scale = layer_scale(2, 0.5)
    assert {scale(name) for name in names if name.startswith("bert.layers.1.")} == {0.5}
    assert {scale(name) for name in names if name.startswith("bert.layers.0.")} == {0.25}
    assert scale("reader.layers.0.weight") == scale("bert.pooler.dense.weight") == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__lora": {}}, "model.lora adapts a Transformer's matrices"),
        ({"model__attention_probs_dropout_prob": 0.1}, "the biLM has no attention"),
        ({"model__reinit_layers": 3}, "exceeds the model's 2 layers"),
        ({"model__bilstm": {"layers": "concat-last-4"}}, "takes 4 layers, and the encoder has 2"),
    ],
)
def test_what_a_bilm_has_not_is_refused_in_words(changes, message):
    with pytest.raises(ConfigError, match=message):
        require_fitting(config_of("x", "y", "auto", **changes).model, BiLMConfig(**SHAPE))
