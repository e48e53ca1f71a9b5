"""From a named task to examples: its files in the original layout, or its data set on the Hub."""

import dataclasses
import logging
from pathlib import Path

from bertkit.errors import TaskError
from bertkit.tasks.conll import detect_scheme, read_conll, to_iob2
from bertkit.tasks.glue_files import read_glue
from bertkit.tasks.hub_rows import local_layout, read_hub
from bertkit.tasks.spec import Example, Files, GlueFiles, TaskSpec
from bertkit.tasks.squad_json import read_squad
from bertkit.tasks.swag_files import read_swag
from bertkit.tasks.text_files import name_some

logger = logging.getLogger(__name__)

READERS = {"squad": read_squad, "conll": read_conll, "swag": read_swag}


def read_split(spec: TaskSpec, split: str, *, data_dir: Path | None = None) -> list[Example]:
    """The examples of one split of a task: from files of the original layout under `data_dir`, or from the Hub.

    Every example to train on or to score has a label: rows without one are left out, counted and logged. Tags are IOB2
    whatever the files are in.

    Raises:
        TaskError: there is no such split, file or network, or a file is broken; the message names the remedy.
    """
    _require_split(spec, split)
    if data_dir is not None:
        examples = _read_files(spec, split, data_dir)
    elif spec.source is not None:
        examples = read_hub(spec, spec.source, split)
    else:
        raise TaskError(f"the task '{spec.name}' is not on the Hub: give its files with --data-dir")
    if spec.problem == "tagging":
        examples = _in_iob2(spec, split, examples)
    return examples if split in spec.splits.predict else _labelled(spec, split, examples)


def has_split(spec: TaskSpec, split: str, data_dir: Path | None = None) -> bool:
    """Whether this split can be read: its file is there, or the Hub has it; raises TaskError as `read_split` does."""
    _require_split(spec, split)
    return spec.source is not None if data_dir is None else _find_file(spec, split, data_dir) is not None


def _require_split(spec: TaskSpec, split: str) -> None:
    known = [name for name in (spec.splits.train, *spec.splits.evaluate, *spec.splits.predict) if name is not None]
    if split not in known:
        raise TaskError(f"the task '{spec.name}' has no split '{split}': choose one of {', '.join(known)}")


def _read_files(spec: TaskSpec, split: str, data_dir: Path) -> list[Example]:
    path = _find_file(spec, split, data_dir)
    if path is None or spec.files is None:
        raise _not_found(spec, split, data_dir)
    if isinstance(spec.files, GlueFiles):
        _note_missing_twin(spec, split, path)
        return read_glue(path, spec, spec.files, split=split)
    return READERS[spec.files.format](path)


def _find_file(spec: TaskSpec, split: str, data_dir: Path) -> Path | None:
    """The split's file in the task's folder, or in `data_dir` when that is the folder itself."""
    if not data_dir.is_dir():
        raise TaskError(f"--data-dir {data_dir} is no folder: give the one that holds {local_layout(spec, split)}")
    for folder in (data_dir / spec.files.folder, data_dir) if spec.files is not None else ():
        for name in _names(spec.files, split):
            if (folder / name).is_file():
                return folder / name
    return None


def _names(files: GlueFiles | Files | None, split: str) -> tuple[str, ...]:
    return () if files is None else files.names.get(split, ())


def _not_found(spec: TaskSpec, split: str, data_dir: Path) -> TaskError:
    if not _names(spec.files, split):
        return TaskError(f"the task '{spec.name}' has no local files for '{split}': leave --data-dir out")
    return TaskError(
        f"{data_dir} has no file for '{split}' of '{spec.name}': it should hold {local_layout(spec, split)}"
    )


def _note_missing_twin(spec: TaskSpec, split: str, path: Path) -> None:
    """Say so where one dev.tsv stands for the matched split, so that nobody misses the other without a word."""
    if split.endswith("_matched") and not path.stem.endswith("_matched"):
        twin = split.removesuffix("_matched") + "_mismatched"
        logger.info("%s", f"{path} is read as '{split}' of '{spec.name}'; '{twin}' needs a file of its own")


def _in_iob2(spec: TaskSpec, split: str, examples: list[Example]) -> list[Example]:
    tags = [_tags(example) for example in examples]
    scheme = detect_scheme(tags)
    if scheme not in ("IOB2", "none"):
        logger.info("%s", f"'{split}' of '{spec.name}' is tagged in {scheme}: its tags become IOB2")
        examples = [
            dataclasses.replace(example, label=to_iob2(sentence, scheme) or None)
            for example, sentence in zip(examples, tags, strict=True)
        ]
    if spec.labels:
        _require_known_tags(spec, examples)
    return examples


def _tags(example: Example) -> tuple[str, ...]:
    return tuple(map(str, example.label)) if isinstance(example.label, tuple) else ()


def _require_known_tags(spec: TaskSpec, examples: list[Example]) -> None:
    known = set(spec.labels)
    for example in examples:
        for word, tag in zip(example.texts, _tags(example), strict=False):
            if tag not in known:
                raise TaskError(
                    f"{example.place}: the tag {tag!r} of the word {word!r} is none of this task's: mend it to one of "
                    f"{', '.join(spec.labels)}"
                )


def _labelled(spec: TaskSpec, split: str, examples: list[Example]) -> list[Example]:
    with_label = [example for example in examples if example.label is not None]
    missing = len(examples) - len(with_label)
    if missing and not with_label:
        raise TaskError(
            f"none of the {missing} rows from {examples[0].place} on has a label, and '{split}' of '{spec.name}' needs "
            "them: a file to predict has been put in the place of one to score"
        )
    if missing:
        rows = [number for number, example in enumerate(examples) if example.label is None]
        logger.info("%s", f"{missing} rows of '{split}' have no label and are left out (row {name_some(rows)}, from 0)")
    return with_label
