"""A task for the demo, from its own corpus: which package does a sentence of a docstring come from?"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import xxhash

from bertkit.data.folders import full_disk_named, make_folder
from bertkit.whole import written_whole

# The best known packages first; those with too few sentences on this machine are left out.
CLASSES: Final = ("numpy", "scipy", "sklearn", "pandas", "torch", "transformers", "sympy", "networkx", "python")
MOST_CLASSES: Final = 6
MOST_SENTENCES, LEAST_SENTENCES = 500, 200
SENTENCE_CHARS: Final = (40, 200)
# One module in so many is kept for scoring, with all its sentences.
EVALUATED_MODULES: Final = 5
_NAMES: Final = re.compile(
    r"\b(numpy|np|scipy|sklearn|scikit|pandas|pd|torch|pytorch|transformers|hugging|sympy|networkx|nx|python)\b", re.I
)


@dataclass(frozen=True)
class DemoTask:
    """Two files with the columns `sentence` and `package`, and the share of the commonest package in the second."""

    train: Path
    evaluate: Path
    packages: tuple[str, ...]
    majority: float


def write_demo_task(corpus_file: Path, folder: Path) -> DemoTask | None:
    """Write train.csv and eval.csv of sentences that name no package; None where fewer than two packages have enough.

    No module is in both files. The same corpus gives the same bytes. Raises CorpusError when the folder cannot be
    written.
    """
    by_package: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in CLASSES}
    for package, module, sentence in _sentences(corpus_file):
        by_package[package][_hash(module) % EVALUATED_MODULES == 0].append(sentence)
    enough = [name for name, (train, _) in by_package.items() if len(train) >= LEAST_SENTENCES]
    packages = tuple([name for name in enough if len(by_package[name][1]) >= LEAST_SENTENCES // 5][:MOST_CLASSES])
    if len(packages) < 2:
        return None
    make_folder(folder)
    paths = folder / "train.csv", folder / "eval.csv"
    most = MOST_SENTENCES, MOST_SENTENCES // 5
    sizes: list[list[int]] = []
    with full_disk_named(folder):
        for side, path in enumerate(paths):
            rows = [(s, name) for name in packages for s in _drawn(by_package[name][side], most[side])]
            sizes.append([sum(name == each for _, name in rows) for each in packages])
            _write(path, rows)
    return DemoTask(*paths, packages, majority=max(sizes[1]) / sum(sizes[1]))


def _sentences(corpus_file: Path) -> Iterator[tuple[str, str, str]]:
    shortest, longest = SENTENCE_CHARS
    with corpus_file.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["package"] in CLASSES:
                for sentence in row["text"].splitlines():
                    if shortest <= len(sentence) <= longest and not _NAMES.search(sentence):
                        yield row["package"], row["module"], sentence


def _drawn(sentences: list[str], most: int) -> list[str]:
    """Up to `most` sentences, drawn by their hash: the same whatever else is there."""
    return sorted(sentences, key=_hash)[:most]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    with written_whole(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("sentence", "package"), *rows])
