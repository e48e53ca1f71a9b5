"""A task's examples from its data set on the Hub, read as parquet: no script of anyone's is ever run."""

from collections.abc import Iterable, Mapping
from typing import Any

from bertkit.errors import TaskError
from bertkit.tasks.labels import label_of
from bertkit.tasks.spec import Example, HubSource, TaskSpec
from bertkit.tasks.squad_json import squad_rows
from bertkit.tasks.swag_files import swag_example


def read_hub(spec: TaskSpec, source: HubSource, split: str) -> list[Example]:
    """The examples of one split in the Hub's order; a label of -1 is None.

    Raises:
        TaskError: the Hub cannot be reached (says which local files would do), or a column or label is not the task's.
    """
    dataset = _load(spec, source, split)
    name = f"{source.repo}{f'/{source.config}' if source.config else ''} {split}"
    _require_columns(spec, split, dataset.column_names, name)
    if spec.problem == "span_qa":
        return squad_rows(dataset, name=name)
    rows = ((_key(row, number), f"{name}:{number}", row) for number, row in enumerate(dataset))
    if spec.problem == "multiple_choice":
        return [swag_example(row, key=key, place=place) for key, place, row in rows]
    names = _class_names(dataset.features.get(spec.label), spec)
    if spec.problem == "tagging":
        return [_tagged(spec, row, key=key, place=place, names=names) for key, place, row in rows]
    return [_labelled(spec, split, row, key=key, place=place, names=names) for key, place, row in rows]


def local_layout(spec: TaskSpec, split: str) -> str:
    """Which file of which download holds a split, such as `CoLA/train.tsv of the GLUE download`."""
    names = spec.files.names.get(split, ()) if spec.files is not None else ()
    if spec.files is None or not names:
        return f"local files of '{split}', of which no layout is known"
    folder = f"{spec.files.folder}/" if spec.files.folder else ""
    return f"{folder}{' or '.join(names)} of {spec.files.download}"


def _load(spec: TaskSpec, source: HubSource, split: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(source.repo, source.config, split=split, revision=source.revision)
    except Exception as error:
        # The Hub's client, its HTTP library and the parquet reader each raise classes of their own.
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise TaskError(
            f"'{split}' of the task '{spec.name}' cannot be read from the Hub ({reason}): {_local_way(spec, split)}"
        ) from error


def _local_way(spec: TaskSpec, split: str) -> str:
    return f"without it, give --data-dir a folder with {local_layout(spec, split)}"


def _require_columns(spec: TaskSpec, split: str, there: Iterable[str], name: str) -> None:
    key = ("id",) if spec.problem == "span_qa" else ()
    for column in (*spec.texts, *spec.columns, *key):
        if column not in there:
            has = ", ".join(map(repr, there))
            raise TaskError(f"{name} has no column {column!r}; it has {has}: {_local_way(spec, split)}")


def _key(row: Mapping[str, Any], number: int) -> str:
    return str(row.get("idx", number))


def _class_names(feature: Any, spec: TaskSpec) -> tuple[str, ...]:
    """The names behind the ids where they are this task's, in the data set's own order; otherwise none."""
    feature = getattr(feature, "feature", feature)
    names = tuple(getattr(feature, "names", None) or ())
    return names if not spec.labels or set(names) <= set(spec.labels) else ()


def _tagged(spec: TaskSpec, row: Mapping[str, Any], *, key: str, place: str, names: tuple[str, ...]) -> Example:
    words, tags = row[spec.texts[0]], row.get(spec.label)
    if tags is not None and len(tags) != len(words):
        raise TaskError(f"{place} has {len(words)} words and {len(tags)} tags: take the row out of a copy of your own")
    label = None if tags is None else tuple(str(label_of(spec, tag, place=place, names=names)) for tag in tags)
    return Example(key=key, place=place, texts=tuple(words), label=label)


def _labelled(
    spec: TaskSpec, split: str, row: Mapping[str, Any], *, key: str, place: str, names: tuple[str, ...]
) -> Example:
    texts = [row[column] for column in spec.texts]
    for column, text in zip(spec.texts, texts, strict=True):
        if not isinstance(text, str):
            raise TaskError(f"{place} has no text in its column {column!r}: take the row out of a copy of your own")
    value = row.get(spec.label)
    # A score may be -1 where it is known; where it is to be predicted, -1 stands for none.
    unknown = value is None or (value == -1 and split in spec.splits.predict)
    return Example(
        key=key,
        place=place,
        texts=tuple(text.strip() for text in texts),
        label=None if unknown else label_of(spec, value, place=place, names=names),
        columns=dict(row) if split != "train" else {},
    )
