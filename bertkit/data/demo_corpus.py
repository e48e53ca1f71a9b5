"""A corpus that needs no network: Python's own reference topics and the docstrings of the installed packages."""

import importlib.util
import json
import logging
import os
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

from bertkit.data.docstrings import english_sentences, read_docstrings
from bertkit.data.folders import full_disk_named, make_folder
from bertkit.data.pool import ordered_map, usable_cores
from bertkit.whole import written_whole

logger = logging.getLogger(__name__)

FILE_NAME: Final = "docstrings.jsonl"
# Packages that come with bertkit or often lie beside it, and whose docstrings are prose.
PACKAGES: Final = (
    *("PIL", "accelerate", "aiohttp", "click", "datasets", "evaluate", "fsspec", "huggingface_hub", "hypothesis"),
    *("jinja2", "joblib", "matplotlib", "mpmath", "networkx", "numpy", "packaging", "pandas", "pip", "pyarrow"),
    *("pydantic", "pygments", "pytest", "requests", "rich", "safetensors", "scipy", "setuptools", "sklearn"),
    *("statsmodels", "sympy", "tensorboard", "tokenizers", "torch", "tqdm", "transformers", "typer", "urllib3", "yaml"),
)
SKIPPED_FOLDERS: Final = frozenset(
    {
        *("__pycache__", "site-packages", "dist-packages", "node_modules", "idlelib", "lib2to3"),
        *("_vendor", "vendor", "vendored", "_vendored", "externals", "extern", "third_party"),
        *("test", "tests", "testing", "_testing"),
    }
)
LEAST_SENTENCES: Final = 4
MODULES_A_BATCH: Final = 64


@dataclass(frozen=True)
class DemoCorpus:
    """Where the corpus lies and what is in it: documents, sentences, characters, and characters by package."""

    path: Path
    documents: int
    sentences: int
    chars: int
    chars_by_package: dict[str, int]


@dataclass(frozen=True)
class _Module:
    """A source file, or a reference topic with its text."""

    name: str
    package: str
    path: Path | None = None
    topic: str = ""


def write_demo_corpus(folder: Path, *, num_workers: int | None = None) -> DemoCorpus:
    """Write `docstrings.jsonl` with the columns text (a sentence a line), module and package, a document a module.

    The same installed packages give the same bytes. A sentence is written once, wherever it comes again.
    Raises CorpusError when the folder cannot be made or written to.
    """
    make_folder(folder)
    path = folder / FILE_NAME
    with full_disk_named(folder):
        tally = _write_rows(path, num_workers=num_workers or usable_cores())
    found = DemoCorpus(path, tally.documents, tally.sentences, sum(tally.chars.values()), dict(tally.chars))
    logger.info(
        "%s",
        f"wrote {found.documents:,} documents of {found.chars / 1e6:.1f} million characters: Python's reference topics "
        f"and the docstrings of {len(found.chars_by_package)} packages on this machine",
    )
    return found


def _write_rows(path: Path, *, num_workers: int) -> "_Tally":
    tally = _Tally()
    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        for rows in ordered_map(_read_batch, _in_batches(_modules()), num_workers=num_workers):
            for module, sentences in rows:
                if text := tally.new_text(module, sentences):
                    row = {"text": text, "module": module.name, "package": module.package}
                    file.write(json.dumps(row) + "\n")
    return tally


class _Tally:
    """What was written so far; a sentence that was, is not written again."""

    def __init__(self) -> None:
        self.documents = self.sentences = 0
        self.chars: Counter[str] = Counter()
        self._written: set[str] = set()

    def new_text(self, module: _Module, sentences: Iterable[str]) -> str:
        """The new sentences of a module, one a line; nothing when there are too few for a document."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._written]
        if len(new) < LEAST_SENTENCES:
            return ""
        self._written.update(new)
        text = "\n".join(new)
        self.documents += 1
        self.sentences += len(new)
        self.chars[module.package] += len(text)
        return text


def _read_batch(modules: Sequence[_Module]) -> list[tuple[_Module, list[str]]]:
    return [(module, list(_sentences(module))) for module in modules]


def _sentences(module: _Module) -> Iterator[str]:
    docstrings = read_docstrings(module.path) if module.path else [module.topic]
    return chain.from_iterable(map(english_sentences, docstrings))


def _modules() -> Iterator[_Module]:
    from pydoc_data import topics

    for topic, text in sorted(topics.topics.items()):
        yield _Module(f"pydoc_data.topics.{topic}", "python", topic=text)
    yield from _modules_below(Path(sysconfig.get_paths()["stdlib"]), package="python", prefix="")
    for package in sorted(PACKAGES):
        for root in _package_folders(package):
            yield from _modules_below(root, package=package, prefix=f"{package}.")


def _modules_below(root: Path, *, package: str, prefix: str) -> Iterator[_Module]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith(("test_", "conftest")):
                path = Path(folder) / name
                module = ".".join(path.relative_to(root).with_suffix("").parts)
                yield _Module(prefix + module, package, path)


def _package_folders(package: str) -> tuple[Path, ...]:
    """Where an installed package lies; it is found, not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    return tuple(sorted(map(Path, spec.submodule_search_locations or ()))) if spec else ()


def _in_batches(modules: Iterable[_Module]) -> Iterator[tuple[_Module, ...]]:
    iterator = iter(modules)
    while batch := tuple(islice(iterator, MODULES_A_BATCH)):
        yield batch
