"""A BERT that fits on a page, and labelled files that it can learn in seconds, one for every kind of problem."""

import json
import random
from pathlib import Path

from toy_encoder import PIECES
from transformers import BertConfig, BertModel, BertTokenizer, set_seed

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import validate_config

FILLERS = ("the", "sat", "on", "mat", "a", "b")


def write_bert(folder: Path, *, seed: int = 0) -> Path:
    """A stock BERT of two layers of 32 with the toy vocabulary."""
    set_seed(seed)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}, do_lower_case=True)
    tokenizer.save_pretrained(folder)
    return folder


def sentences(number, *, seed=0):
    """Sentences of fillers in which one word in two is 'cat' or not, with where it stands."""
    draw = random.Random(seed)
    for place in range(number):
        words = [draw.choice(FILLERS) for _ in range(draw.randint(3, 8))]
        spot = draw.randrange(len(words)) if place % 2 else None
        if spot is not None:
            words[spot] = "cat"
        yield words, spot


def write_examples(folder: Path, problem: str, *, number: int = 48, seed: int = 0) -> Path:
    """A labelled file of a problem: is there a cat, how many, which word is it, where, in which choice."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(sentences(number, seed=seed))
    if problem == "tagging":
        path = folder / "train.conll"
        lines = ("\n".join(f"{w} {'B-CAT' if i == spot else 'O'}" for i, w in enumerate(words)) for words, spot in rows)
        path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        return path
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(_row(problem, *row, n)) + "\n" for n, row in enumerate(rows)), encoding="utf-8")
    return path


def _row(problem, words, spot, number):
    text = " ".join(words)
    if problem == "classification":
        return {"text": text, "label": "nothing" if spot is None else "animal"}
    if problem == "regression":
        return {"text": text, "label": 0.0 if spot is None else 1.5 + 0.001 * number}
    if problem == "multi_label":
        return {"text": text, "label": [n for n, has in (("animal", spot is not None), ("a", "a" in words)) if has]}
    if problem == "span_qa":
        start = -1 if spot is None else len(" ".join([*words[:spot], ""]))
        answers = {"text": [], "answer_start": []} if spot is None else {"text": ["cat"], "answer_start": [start]}
        return {"id": str(number), "question": "who sat", "context": text, "answers": answers}
    with_cat, without = " ".join(["cat", *words[1:]]), " ".join("mat" if w == "cat" else w for w in words)
    choices = [without, with_cat] if number % 2 else [with_cat, without]
    return {"context": "who", "ending0": choices[0], "ending1": choices[1], "label": number % 2}


def toy_config(train: Path, bert: Path, problem: str, **changes) -> FinetuneConfig:
    """The config of a run that learns its task in a second or two."""
    values = {
        "task": {"train": str(train), "problem": problem, "max_seq_length": 32, "eval_share": 0.25},
        "model": {"init_from": str(bert), "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0},
        "optim": {"learning_rate": 3e-3, "warmup_steps": 0.1},
        "train": {"epochs": 2, "global_batch_size": 8, "micro_batch_size": 4, "precision": "fp32"},
        "every": {"log_steps": 2},
    }
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        values[section][key] = value
    return validate_config(FinetuneConfig, values, source="test")
