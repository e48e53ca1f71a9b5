"""What the pages are filled with when the site is built, so that it cannot go stale.

A line of a page that is nothing but a comment such as `<!-- options: finetune glue -->` is replaced by what the
program itself says: the options of its commands, the settings of its schema, its recipes, tasks and public names; or by
a drawing of what its models do.
"""

import inspect
import json
import posixpath
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from drawings import architecture, directions, input_representation
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MARKER = re.compile(r"^<!-- (\w+)(?:: (.+?))? -->$", flags=re.MULTILINE)
# Files of the repository that are pages, too.
SHARED = {
    "recipes/README.md": "measured.md",
    "recipes/LOG.md": "experiments.md",
    "CHANGELOG.md": "changelog.md",
    ".github/CONTRIBUTING.md": "contributing.md",
}
# What a page links to outside of docs/, as GitHub resolves it, and where the site has it.
ELSEWHERE = SHARED | {
    "README.md": "index.md",
    "recipes": "recipes.md",
    "recipes/accelerate": "recipes.md",
    "recipes/slurm": "recipes.md",
}
# What parts words and is not seen; mkdocs.yml names it as a separator of the search.
WORD_BREAK = "\u200b"
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere in the repository."""
    for source, page in SHARED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in what the program says, and turns links to the repository's files into links to pages."""
    here = page.file.src_uri
    source = {page: path for path, page in SHARED.items()}.get(here, f"docs/{here}")
    return LINK.sub(lambda link: _linked(link, source, here), MARKER.sub(lambda found: _filled(found, here), markdown))


def on_post_build(config: MkDocsConfig) -> None:
    """Takes the Chinese of the search's index apart into words, as the theme does itself with a package of its own."""
    index = Path(config.site_dir, "search/search_index.json")
    if find_spec("rjieba") is None or not index.is_file():
        return
    import rjieba

    def parted(text: str) -> str:
        return re.sub(r"[\u4e00-\u9fff]+", lambda run: WORD_BREAK.join(["", *rjieba.cut(run[0]), ""]), text)

    known = json.loads(index.read_text(encoding="utf-8"))
    for section in known["docs"]:
        section["title"], section["text"] = parted(section["title"]), parted(section["text"])
    index.write_text(json.dumps(known, separators=(",", ":")), encoding="utf-8")


def _linked(link: re.Match[str], source: str, here: str) -> str:
    text, path, anchor = link.groups()
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target in ELSEWHERE:
        page = posixpath.relpath(ELSEWHERE[target], posixpath.dirname(here) or ".")
        return f"[{text}]({page}{anchor or ''})"
    # A file of the repository that is no page: its name is enough.
    return text if not target.startswith("docs/") and (ROOT / target).exists() else link[0]


def _filled(found: re.Match[str], here: str) -> str:
    if found[1] not in FILLERS:
        raise PluginError(f"{here}: there is nothing called '{found[1]}' to fill in; there are {', '.join(FILLERS)}")
    return "\n".join(FILLERS[found[1]](*([found[2]] if found[2] else [])))


def options(command: str) -> Iterator[str]:
    """How a command is called: its usage, then its arguments and options with their defaults."""
    found = _command(command)
    hints = typing.get_type_hints(inspect.unwrap(found.callback))
    arguments = [each for each in found.params if each.param_type_name == "argument"]
    given = [each for each in found.params if each.param_type_name == "option"]
    words = [_word(each, hints) for each in arguments]
    yield from ("```text", " ".join(["bertkit", command, *words, "[OPTIONS]"]), "```", "")
    rows = [(each.metavar or word.strip("[]"), each) for word, each in zip(words, arguments, strict=True)]
    if rows:
        yield from _table(("argument", "meaning"), ((_whole(word), _help(each, hints)) for word, each in rows))
        yield ""
    yield from _table(("option", "meaning"), ((_call(each, hints), _help(each, hints)) for each in given))


def commands() -> Iterator[str]:
    """Every command with its first sentence, linked to its page."""
    yield from _table(
        ("command", "what it does"),
        ((f"[{_whole(name)}]({name}.md)", _cell(_sentence(each.help))) for name, each in _app().commands.items()),
    )


def subcommands(command: str) -> Iterator[str]:
    """The commands of a group, each with its first sentence."""
    yield from _table(
        ("command", "what it does"),
        (
            (_whole(f"{command} {name}"), _cell(_sentence(each.help)))
            for name, each in _command(command).commands.items()
        ),
    )


def settings(kind: str) -> Iterator[str]:
    """Every setting of pre-training or fine-tuning, a table a section."""
    from bertkit.config.finetune import FinetuneConfig
    from bertkit.config.load import describe_schema
    from bertkit.config.schema import PretrainConfig

    schema = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}[kind]
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for key, default, meaning in describe_schema(schema):
        section = key.rpartition(".")[0]
        sections.setdefault(section, []).append((_whole(key), _whole(default) if default else "", _cell(meaning)))
    for section, rows in sections.items():
        yield f"### {kind}: {section or 'the text'}\n"
        yield from _table(("key", "default", "what it does"), rows)
        yield ""


def recipe_table(kind: str) -> Iterator[str]:
    """The shipped recipes in one table: what they are, for which hardware, what was measured."""
    rows = []
    for name, title, fields, _ in _recipes(kind):
        known = dict(fields)
        rows.append(
            (f"[{_whole(name)}](#{kind}-{name})", _cell(title), _cell(known["Hardware"]), _cell(known["Measured"]))
        )
    yield from _table(("recipe", "what it is", "hardware", "measured"), rows)


def recipes(kind: str) -> Iterator[str]:
    """The shipped recipes from their own headers, the whole file folded below each."""
    for name, title, fields, text in _recipes(kind):
        yield f"### {name} {{ #{kind}-{name} }}\n\n{title}.\n"
        yield from _table(("", ""), ((f"**{key}**", _called(key, value)) for key, value in fields))
        yield '\n??? note "The file"\n\n    ```yaml'
        yield from (f"    {line}" for line in text.splitlines())
        yield "    ```\n"


def tasks() -> Iterator[str]:
    """The named tasks with what each is trained and scored by."""
    from bertkit.tasks.registry import list_tasks

    rows = []
    for spec in list_tasks():
        defaults = spec.defaults
        settings = (
            f"{defaults.learning_rate:g}, {defaults.epochs:g}, {defaults.global_batch_size}, {defaults.max_seq_length}"
        )
        rows.append(
            (f"`{spec.name}`", spec.problem, ", ".join(spec.metrics), settings if spec.splits.train else "scored only")
        )
    yield from _table(("task", "problem", "metrics", "learning rate, epochs, batch, length"), rows)


def api(names: str) -> Iterator[str]:
    """Public names of bertkit, from their docstrings."""
    import bertkit

    for name in names.split():
        home = getattr(bertkit, name).__module__
        yield f"::: {home}.{name}\n    options:\n      heading: bertkit.{name}\n      toc_label: {name}\n"


def api_of(names: str) -> Iterator[str]:
    """Names of bertkit's modules in full, from their docstrings."""
    for name in names.split():
        yield f"::: {name}\n    options:\n      heading: {name}\n      toc_label: {name.rpartition('.')[2]}\n"


def figure(name: str) -> Iterator[str]:
    """A drawing that follows the page's colours, which an image file could not."""
    yield f'<figure markdown="0" class="drawing">{(ROOT / "docs/figures" / name).read_text(encoding="utf-8")}</figure>'


def terminal(arguments: str) -> Iterator[str]:
    """A command and what it prints, run beside a BERT's folder of few words."""
    from shapes import printed

    yield from (
        "```bash",
        f"bertkit {arguments}",
        "```",
        "",
        "```text",
        printed(shlex.split(arguments)),
        "```",
    )


FILLERS: dict[str, Callable[..., Iterator[str]]] = {
    each.__name__: each
    for each in (
        *(options, commands, subcommands, settings, recipe_table, recipes, tasks, api, api_of, figure, terminal),
        *(architecture, directions, input_representation),
    )
}


def _app():
    import typer

    from bertkit.cli import app

    return typer.main.get_command(app)


def _command(path: str):
    found = _app()
    for name in path.split():
        found = found.commands[name]
    return found


def _table(header: tuple[str, ...], rows) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _recipes(kind: str) -> Iterator[tuple[str, str, list[tuple[str, str]], str]]:
    """Name, title, fields of the header and settings of each recipe."""
    from bertkit.config.load import list_finetuning_recipes, list_recipes

    for path in (list_finetuning_recipes if kind == "finetune" else list_recipes)():
        text = path.read_text(encoding="utf-8")
        title, *header = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        yield path.stem, title, _fields(header), text[text.index("\n\n") + 2 :].rstrip()


def _fields(header: list[str]) -> list[tuple[str, str]]:
    """`Key: value` lines of a recipe's header, continued lines joined."""
    fields: list[tuple[str, str]] = []
    for line in filter(None, header):
        key, colon, value = line.partition(":")
        if colon and re.fullmatch(r"[A-Z][a-z]+( [a-z]+)?", key):
            fields.append((key, value.strip()))
        elif fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line}")
    return fields


def _called(key: str, value: str) -> str:
    """The value of a field, a command as code apart from what is said behind it."""
    command, _, remark = value.partition("   ")
    return f"`{command}` {_cell(remark.strip())}" if key == "Command" else _cell(value)


def _word(argument, hints: dict[str, Any]) -> str:
    word = argument.metavar or argument.name.upper()
    if argument.required or argument.metavar:
        return word
    return f"[{word}...]" if _bare(hints[argument.name])[1] else f"[{word}]"


def _call(option, hints: dict[str, Any]) -> str:
    """An option with what follows it: nothing, one of some words, or a value of a type."""
    names, (hint, _) = ", ".join(option.opts), _bare(hints.get(option.name, bool))
    if hint is bool:
        return _whole(names)
    kind = "WORD" if _choices(hint) else {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")
    return _whole(f"{names} {option.metavar or kind}")


def _choices(hint) -> tuple[str, ...]:
    """The words that are all there is to choose from, or none."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return tuple(each.value for each in hint) if isinstance(hint, type) and issubclass(hint, Enum) else ()


def _bare(hint) -> tuple[Any, bool]:
    """The type without `| None` and `list[...]`, and whether there may be several."""
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    if isinstance(hint, types.UnionType):
        hint = inner[0]
    return (typing.get_args(hint)[0], True) if typing.get_origin(hint) is list else (hint, False)


def _default(parameter) -> str:
    shown = parameter.default
    if isinstance(shown, str | int | float | Path) and not isinstance(shown, bool):
        return f" If left out: `{getattr(shown, 'value', shown)}`."
    return ""


def _help(parameter, hints: dict[str, Any]) -> str:
    """What a parameter does, the words it takes, and what it is if left out."""
    hint, several = _bare(hints.get(parameter.name, bool))
    told = _cell(parameter.help or "")
    if choices := _choices(hint):
        told += f" One of {', '.join(f'`{each}`' for each in choices)}."
    if parameter.required and parameter.param_type_name == "option":
        told += " Required."
    if several and parameter.param_type_name == "option" and not re.search("repeat|twice", told):
        told += " May be repeated."
    return told + _default(parameter)


def _whole(code: str) -> str:
    """Code that is not broken into lines."""
    return f"`{code}`{{ .whole }}"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    """Text that a cell of a table shows as it is."""
    return (
        " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;").replace("*", "&#42;").replace("[", "&#91;")
    )
