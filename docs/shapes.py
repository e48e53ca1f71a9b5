"""What the drawings of the architectures page show: examples that went through bertkit's own featurizing and forward.

The models are BERT base on torch's meta device: every shape is computed, no number is, so a build takes no time.
Shape letters: T packed tokens, I instances.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertTokenizer

from bertkit.data.features import collate_features
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.model import BertKitConfig, BertKitModel
from bertkit.model.reader import reader_settings
from bertkit.tasks.problem import ProblemOptions, encoder_inputs
from bertkit.tasks.problems import PROBLEMS
from bertkit.tasks.spec import Example

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# A vocabulary small enough that words of the examples come in several pieces.
WORDS = (
    *("the", "a", "cat", "sat", "on", "mat", "it", "purr", "##ed", "sleeps", "rests", "rains", "all", "is", "dry"),
    *("warm", "film", "un", "##funny", "and", "long", "who", "sang", "?", ".", "ann", "bob", "danc", "where", "in"),
    *("rome", "lives", "jo", "##anna", "sings", "we", "stay", "swim"),
)
BILSTM = reader_settings({})


@dataclass(frozen=True)
class Architecture:
    """A model of the page: the kind of problem, a batch of examples with their labels, and the labels' names."""

    title: str
    problem: str
    examples: tuple[tuple[str, ...], ...]
    answers: tuple[Any, ...]
    labels: tuple[str, ...] = ()
    bilstm: dict[str, Any] | None = None


TAGS = ("O", "B-PER", "B-LOC")
PEOPLE = (("ann", "lives", "in", "rome"), ("joanna", "sings"))
TAGGED = (("B-PER", "O", "O", "B-LOC"), ("B-PER", "O"))
ARCHITECTURES = {
    "pair-classification": Architecture(
        "Pair classification",
        "classification",
        (("a cat sleeps", "it rests"), ("it rains", "all is dry")),
        ("entailment", "contradiction"),
        ("entailment", "neutral", "contradiction"),
    ),
    "single-classification": Architecture(
        "Single classification",
        "classification",
        (("a warm film",), ("unfunny and long",)),
        ("positive", "negative"),
        ("negative", "positive"),
    ),
    "question-answering": Architecture(
        "Question answering",
        "span_qa",
        (("who sang?", "ann sang, bob danced"), ("where?", "in rome")),
        (("ann", "ann"), ("in", "rome")),
    ),
    "tagging": Architecture("Tagging", "tagging", PEOPLE, TAGGED, TAGS),
    "multiple-choice": Architecture(
        "Multiple choice", "multiple_choice", (("it rains", "we stay in", "we swim"),), (0,), ("", "")
    ),
    "feature-based": Architecture("Feature-based tagging", "tagging", PEOPLE, TAGGED, TAGS, BILSTM),
}


@dataclass(frozen=True)
class Seen:
    """What went through a model: the pieces [T], which segment and position each has, where instances start, shapes."""

    pieces: list[str]
    segments: list[int]
    positions: list[int]
    bounds: list[int]
    layers: int
    word: list[int] | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@cache
def see(name: str) -> Seen:
    """Sends the examples of an architecture through it, and writes down the shape that leaves each of its parts."""
    known = ARCHITECTURES[name]
    problem = PROBLEMS[known.problem]
    examples = [Example(str(i), f"row {i}", texts) for i, texts in enumerate(known.examples)]
    features = problem.featurize(examples, _encoder(), ProblemOptions(labels=known.labels), False)
    batch = collate_features(features, np.arange(features.num_groups))
    config = BertKitConfig(num_labels=max(len(known.labels), 2), bilstm=known.bilstm, return_dict=True)
    with torch.device("meta"):
        model = problem.model_class(config).eval()
    return Seen(
        [_pieces()[i] for i in batch["input_ids"].tolist()],
        batch["token_type_ids"].tolist(),
        batch["position_ids"].tolist(),
        batch["cu_seqlens"].tolist(),
        config.num_hidden_layers,
        features.alignment["word"].tolist() if known.problem == "tagging" else None,
        shapes_of(model, batch, choices=len(known.labels) if known.problem == "multiple_choice" else None),
    )


def shapes_of(
    model: torch.nn.Module, batch: dict[str, Any], *, choices: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of what leaves every part of a model that has a name of its own, and of the model's own outputs."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(part: str, value: Any) -> None:
        tensors = value if isinstance(value, tuple) else value.to_tuple() if hasattr(value, "to_tuple") else (value,)
        found = [tuple(each.shape) for each in tensors if isinstance(each, torch.Tensor)]
        shapes.update({part if i == 0 else f"{part}.{i}": shape for i, shape in enumerate(found)})

    for part, module in model.named_children():
        module.register_forward_hook(lambda _, __, value, part=part: note(part, value))
    for part, module in model.bert.named_children():
        module.register_forward_hook(lambda _, __, value, part=part: note(f"bert.{part}", value))
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in encoder_inputs(batch).items()}
    outputs = model(**inputs, **({} if choices is None else {"num_choices": choices}))
    shapes |= {part: tuple(value.shape) for part, value in outputs.items() if isinstance(value, torch.Tensor)}
    return shapes


def visible(direction: str, tokens: int) -> np.ndarray:
    """[parts, T, T]: whether part of the state of token i changes with the word embedding of token j.

    Parts: the whole state, or for `bilm` what its forward and its backward direction say.
    """
    model = _smallest(direction)
    embeddings = torch.randn(1, tokens, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    embeddings.requires_grad_()
    states = model(inputs_embeds=embeddings).last_hidden_state[0]
    parts = states.chunk(2, dim=-1) if direction == "bilm" else [states]
    seen = [[_moved(part[i], embeddings) for i in range(tokens)] for part in parts]
    return np.array(seen)


def _moved(state: torch.Tensor, embeddings: torch.Tensor) -> list[bool]:
    weights = torch.randn(state.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((state * weights).sum(), embeddings, retain_graph=True)
    return gradient[0].abs().sum(-1).gt(1e-12).tolist()


def _smallest(direction: str) -> torch.nn.Module:
    shape = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if direction == "bilm":
            from bertkit.model import BiLMConfig, BiLMModel

            return BiLMModel(BiLMConfig(**shape)).eval()
        config = BertKitConfig(**shape, num_attention_heads=2, is_decoder=direction == "left-to-right")
        return BertKitModel(config).eval()


def explained(text: str, pair: str) -> Any:
    """The `Explanation` of a pair by the vocabulary above."""
    from bertkit.workflows.explain import explain

    with _folder():
        return explain(text, pair, source="bert-folder")


def printed(arguments: Sequence[str]) -> str:
    """What `bertkit` prints when it is called so, beside a folder `bert-folder` with the vocabulary above."""
    from typer.testing import CliRunner

    from bertkit.cli import app

    with _folder():
        result = CliRunner().invoke(app, list(arguments))
    if result.exit_code:
        raise RuntimeError(f"bertkit {' '.join(arguments)}: {result.output}")
    return "\n".join(line.rstrip() for line in result.stdout.splitlines())


@contextlib.contextmanager
def _folder():
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _tokenizer().save_pretrained("bert-folder")
        yield Path(folder)


@cache
def _encoder() -> TextEncoder:
    with _folder():
        return TextEncoder(load_tokenizer("bert-folder"))


def _tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(_pieces())}, do_lower_case=True)


def _pieces() -> tuple[str, ...]:
    return (*SPECIALS, *WORDS, ",")
