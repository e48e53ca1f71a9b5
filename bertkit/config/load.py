"""From a recipe and `--set` options to a validated config, and back to YAML."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from bertkit.config.leaves import EXECUTION
from bertkit.errors import ConfigError, nearest, redacted

Config = TypeVar("Config", bound=BaseModel)

_PACKAGE = Path(__file__).resolve().parents[1]

# Far more than any recipe needs, and as much as YAML is read in a moment.
MOST_CHARS: Final = 100_000
SHOWN_CHARS: Final = 100
# Keys less alike than this are not taken for one another, those of another section still less.
_ALIKE: Final = 0.5
_ALIKE_ELSEWHERE: Final = 0.65
_SHOWN_KEYS: Final = 3


def recipes_dir() -> Path:
    """The folder of shipped recipes: inside the package when installed, beside it in a checkout."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def list_recipes() -> list[Path]:
    """The shipped recipes for pre-training, by name."""
    return sorted(recipes_dir().glob("*.yaml"))


def list_finetuning_recipes() -> list[Path]:
    """The shipped recipes for fine-tuning, by name."""
    return sorted((recipes_dir() / "finetune").glob("*.yaml"))


def find_recipe(name: str, *, finetuning: bool = False) -> Path:
    """The file of a shipped recipe's name, or of a path to a YAML file; fine-tuning's are finetune/NAME elsewhere.

    Raises:
        ConfigError: there is no such recipe; names the nearest.
    """
    finetuning = finetuning or name.startswith("finetune/")
    name = name.removeprefix("finetune/")
    shipped = {path.stem: path for path in (list_finetuning_recipes() if finetuning else list_recipes())}
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(f"recipe file {name} does not exist")
    raise ConfigError(
        f"no recipe is called '{_short(name)}'{nearest(_short(name), shipped)}; the recipes are {', '.join(shipped)}"
    )


def read_recipe(name: str) -> str:
    """The text of a recipe.

    Raises:
        ConfigError: there is no such recipe, or it is not text.
    """
    path = find_recipe(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def load_config(
    schema: type[Config], recipe: Path, *, settings: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> Config:
    """The config of `recipe` under `settings` ("section.key=value") and then `options` (dotted key to value).

    Raises:
        ConfigError: unreadable YAML, unknown keys (names the nearest), or values that do not fit.
    """
    return config_of(schema, read_yaml(recipe), source=recipe.name, settings=settings, options=options)


def config_of(
    schema: type[Config],
    values: dict[str, Any],
    *,
    source: str,
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The config of `values`, which are changed, under `settings` and then `options`, as `load_config` has it.

    Raises:
        ConfigError: as `load_config`; `source` is what it names.
    """
    set_keys = []
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {_short(setting)} is not of the form section.key=value")
        _assign(values, key.strip(), _setting_value(setting, text.strip()))
        set_keys.append(key.strip())
    for key, value in (options or {}).items():
        if value is not None:
            _assign(values, key, value)
    return validate_config(schema, values, source=source, set_keys=set_keys)


def with_values(config: Config, changes: Mapping[str, Any], *, source: str) -> Config:
    """The config with other values by dotted key, checked anew.

    Raises:
        ConfigError: a value does not fit; `source` is what it names.
    """
    values = config.model_dump(mode="json")
    for key, value in changes.items():
        _assign(values, key, value)
    return validate_config(type(config), values, source=source)


def validate_config(
    schema: type[Config], values: Mapping[str, Any], *, source: str, set_keys: Collection[str] = ()
) -> Config:
    """Checks `values` against `schema`; `source` is where they come from, but for `set_keys`, which --set gave.

    Raises:
        ConfigError: names the key, what is wrong with it, and for unknown keys the nearest one.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden" and (key := _set_key_at(first["loc"], set_keys)):
            raise ConfigError(f"--set {_short(key)}: unknown key{_meant(schema, key)}") from error
        raise ConfigError(f"{source}: {_explain(schema, first)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            values = _parse_yaml(file.read(MOST_CHARS + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections such as 'train:', not a {type(values).__name__}")
    return values


def dump_config(config: BaseModel) -> str:
    """The config as YAML, every field written out, and no secret: see `redacted`."""
    return yaml.safe_dump(_without_secrets(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def differing_keys(first: BaseModel, second: BaseModel) -> list[str]:
    """The dotted keys in which two configs differ, but for secrets and what only says how a run is executed."""
    ignored = set(_execution_keys(type(first)))
    a, b = (dict(_flat(_without_secrets(config.model_dump(mode="json")))) for config in (first, second))
    return sorted(
        key for key in a.keys() | b.keys() if a.get(key) != b.get(key) and ignored.isdisjoint(_sections_of(key))
    )


def without_execution(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config but those that only say how a run is executed or watched, and where."""
    ignored = set(_execution_keys(schema))

    def kept(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        chosen = {}
        for key, value in values.items():
            dotted = f"{prefix}{key}"
            if dotted in ignored:
                continue
            if isinstance(value, Mapping) and value:
                value = kept(value, f"{dotted}.")
                if not value:
                    continue
            chosen[key] = value
        return chosen

    return kept(values, "")


def describe_schema(schema: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Every setting as (dotted key, default, description)."""
    sections = dict(_sections(schema))
    rows = []
    for prefix, section in [("", schema), *((f"{name}.", model) for name, model in sections.items())]:
        for name, field in section.model_fields.items():
            if f"{prefix}{name}" not in sections or field.description:
                default = field.get_default() if not field.is_required() else None
                shown = "" if isinstance(default, BaseModel | tuple) else yaml.safe_dump(default).splitlines()[0]
                rows.append((f"{prefix}{name}", shown, field.description or ""))
    return rows


def _setting_value(setting: str, text: str) -> Any:
    """The value of --set as YAML, but for what only looks like it: a heading's pattern may hold ': ' or ' #'."""
    if text[:1] in ("{", "[", '"', "'") or (": " not in f"{text} " and " #" not in text):
        try:
            return _parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"--set {_short(setting)}: the value is not valid YAML") from error
    return text


def _parse_yaml(text: str) -> Any:
    """What YAML means; raises ValueError for what is no YAML, or far too much of it.

    A few lines of aliases may stand for more values than fit into memory, so they are counted before they are made.
    """
    if len(text) > MOST_CHARS:
        raise ValueError(f"it has more than {MOST_CHARS:,} characters")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if _written_out(node, {}) > MOST_CHARS:
            raise ValueError(f"its aliases stand for more than {MOST_CHARS:,} characters")
        return None if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # Beside its own errors, yaml raises whatever a strange number or date makes Python raise.
        raise ValueError(str(error)) from error


def _written_out(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Characters of a node with its aliases written out, infinitely many where it lies within itself.

    Raises ValueError for a NUL, which no name of a file and no text may hold.
    """
    if node is None or isinstance(node, yaml.ScalarNode):
        text = node.value if node else ""
        if "\0" in text:
            raise ValueError("it holds a NUL character")
        return 1 + len(text)
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(each, known) for each in inner)
    return known[id(node)]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        inner = values.get(section)
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {_short(dotted)}: '{_short(section)}' is not a section")
        values = inner
    values[key] = value


def _explain(schema: type[BaseModel], problem: Mapping[str, Any]) -> str:
    dotted = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_fields_at(schema, problem["loc"][:-1]))
        return f"unknown key '{_short(dotted)}'{nearest(_short(str(problem['loc'][-1])), known)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    given = f" (given: {_short(repr(problem['input']))})" if not isinstance(problem["input"], dict) else ""
    return f"{dotted}: {message[:1].lower()}{message[1:]}{given}"


def _set_key_at(location: Sequence[str | int], set_keys: Collection[str]) -> str | None:
    """The key at a location, or the one below it, that --set gave, itself or with the section it lies in."""
    dotted = ".".join(str(part) for part in location)
    for key in set_keys:
        if f"{key}.".startswith(f"{dotted}."):
            return key
        if dotted.startswith(f"{key}."):
            return dotted
    return None


def _meant(schema: type[BaseModel], given: str) -> str:
    """`: did you mean '...'?` for the keys of all sections most like one that there is not, or nothing.

    Those that end with it come first, then those of its own section.
    """
    keys = [*schema.model_fields]
    for name, section in _sections(schema, in_lists=False):
        keys += [f"{name}.{field}" for field in section.model_fields]
    inside = [key for key in keys if key.rpartition(".")[0] == given.rpartition(".")[0]]
    found = (
        [key for key in keys if key.endswith(f".{given}")]
        or _likest(given, inside, least=_ALIKE)
        or _likest(given, keys, least=_ALIKE_ELSEWHERE)
    )
    return f": did you mean {' or '.join(repr(key) for key in found[:_SHOWN_KEYS])}?" if found else ""


def _likest(given: str, keys: Sequence[str], *, least: float) -> list[str]:
    """The keys whose last part is most like that of `given`, if any is like it."""
    last = given.rpartition(".")[2]
    likeness = {key: _likeness(last, key.rpartition(".")[2]) for key in keys}
    best = max(likeness.values(), default=0.0)
    return [key for key in keys if likeness[key] == best] if best >= least else []


def _likeness(given: str, name: str) -> float:
    """How much a name is like the one given, from 0 to 1; as much as it can be where that is its initials, as lr is."""
    initials = "".join(word[0] for word in name.split("_"))
    if given == initials and len(initials) > 1:
        return 1.0
    return difflib.SequenceMatcher(None, given[:SHOWN_CHARS], name).ratio()


def _fields_at(schema: type[BaseModel], location: Sequence[str | int]) -> Iterator[str]:
    sections = dict(_sections(schema))
    dotted = ".".join(str(part) for part in location if not isinstance(part, int))
    yield from sections.get(dotted, schema).model_fields


def _sections(
    schema: type[BaseModel], prefix: str = "", *, in_lists: bool = True
) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in schema.model_fields.items():
        if get_origin(field.annotation) is tuple and not in_lists:
            continue
        arguments = getattr(field.annotation, "__args__", ())
        for candidate in (field.annotation, *arguments):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield f"{prefix}{name}", candidate
                yield from _sections(candidate, f"{prefix}{name}.", in_lists=in_lists)


def _execution_keys(schema: type[BaseModel]) -> Iterator[str]:
    for prefix, section in [("", schema), *((f"{name}.", model) for name, model in _sections(schema))]:
        for name, field in section.model_fields.items():
            if field.json_schema_extra == EXECUTION:
                yield f"{prefix}{name}"


def _without_secrets(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_secrets(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_secrets(value) for value in values]
    return redacted(values) if isinstance(values, str) else values


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _flat(value, f"{prefix}.{number}")
    else:
        yield prefix, values


def _sections_of(dotted: str) -> list[str]:
    """The key without numbers in lists, and every key it lies below: a setting may be a mapping itself."""
    parts = [part for part in dotted.split(".") if not part.isdigit()]
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
