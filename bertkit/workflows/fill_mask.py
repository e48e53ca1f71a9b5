"""What a pre-trained model puts in the place of [MASK]."""

from dataclasses import dataclass
from pathlib import Path

from transformers import pipeline


@dataclass(frozen=True)
class FilledMask:
    """A sentence with one [MASK], and the likeliest words there with their probabilities."""

    sentence: str
    words: tuple[tuple[str, float], ...]


def fill_mask(model_path: Path, sentences: list[str], *, top_k: int = 4) -> list[FilledMask]:
    """Asks transformers' own fill-mask pipeline, which knows nothing of bertkit."""
    fill = pipeline("fill-mask", model=str(model_path), tokenizer=str(model_path), top_k=top_k, device="cpu")
    return [
        FilledMask(sentence, tuple((guess["token_str"], float(guess["score"])) for guess in fill(sentence)))
        for sentence in sentences
    ]
