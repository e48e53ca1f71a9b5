"""A corpus that fits on a page, and the store and the run made from it."""

import os
import random
from pathlib import Path

import pytest

# Tests run side by side on few cores: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ANIMALS = ("cat", "dog", "fox", "owl", "bee", "cow", "hen", "pig", "ram", "eel")
VERBS = ("sees", "likes", "finds", "hears", "meets", "follows")
PLACES = ("house", "river", "garden", "forest", "market", "school")


def write_corpus(folder: Path, *, documents: int = 30, sentences: int = 12, seed: int = 0) -> Path:
    """Documents about one animal each, in the original BERT's format: one sentence a line, a blank line between."""
    draw = random.Random(seed)
    texts = []
    for number in range(documents):
        hero = ANIMALS[number % len(ANIMALS)]
        lines = [
            f"The {hero} {draw.choice(VERBS)} the {draw.choice(ANIMALS)} near the {draw.choice(PLACES)} {place}."
            for place in range(sentences)
        ]
        texts.append("\n".join(lines))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "animals.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def store(corpus_dir, tmp_path_factory):
    from bertkit.config.schema import DataConfig, TokenizerConfig
    from bertkit.data.store import TokenStore
    from bertkit.workflows.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "store"
    config = DataConfig(num_workers=1, heldout_share=0.1, tokenizer=TokenizerConfig(vocab_size=120))
    prepare(str(corpus_dir), folder, config)
    return TokenStore.open(folder)
