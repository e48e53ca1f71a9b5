"""A corpus that fits on a page."""

import random
from pathlib import Path

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
