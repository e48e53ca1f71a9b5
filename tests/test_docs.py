"""The documentation says what the program does: its command lines parse, its messages exist, nothing is left out."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import bertkit
import bertkit.model
from bertkit.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = [ROOT / "README.md", ROOT / ".github/CONTRIBUTING.md"]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
ENGLISH = {DOCS / "zh/README.md": ROOT / "README.md", DOCS / "zh/quickstart.md": DOCS / "quickstart.md"}
# What may stand for something else in a quoted message, and what is too short to say anything.
LEAST_QUOTED_CHARS = 8


def commands(group=None, prefix=""):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def blocks(page, *languages):
    """The fenced blocks of a page, those in the tabs of an admonition too."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for indent, language, text in found:
        if language in languages:
            yield re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


def command_lines(page):
    """Every `bertkit ...` of a page's fenced blocks, behind launchers and in pipes, too."""
    for text in blocks(page, "", "bash", "powershell"):
        for line in text.splitlines():
            found = re.search(r"(?:^|\| |-m |srun |while )bertkit (.*?)(?:\s+#.*|[|>;].*)?$", line)
            if found:
                yield shlex.split(found[1])


def parse(arguments):
    """Parses a command line as the program would, and runs nothing."""
    command, name, contexts = typer.main.get_command(app), "bertkit", []
    while hasattr(command, "commands"):
        context = command.make_context(name, list(arguments), parent=contexts[-1] if contexts else None)
        contexts.append(context)
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, list(arguments), parent=contexts[-1])


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_page_parses(page):
    for arguments in command_lines(page):
        if arguments[0].startswith("--"):
            assert arguments[0] in {option for each in typer.main.get_command(app).params for option in each.opts}
            continue
        try:
            parse(arguments)
        except typer.Exit:
            assert "--help" in arguments
        except Exception as error:
            pytest.fail(f"bertkit {shlex.join(arguments)}: {error!r}")


def test_command_lines_are_found_and_wrong_ones_are_not_accepted():
    assert sum(len(list(command_lines(page))) for page in PAGES) > 100
    for wrong in ("pretrian corpus/", "pretrain corpus/ --recipes mini", "finetune glue", "export --to tensorflow"):
        with pytest.raises(Exception, match=r".") as caught:
            parse(wrong.split())
        assert "UsageError" in [kind.__name__ for kind in type(caught.value).__mro__]


def test_every_command_has_a_page_that_is_in_the_menu_and_shows_its_options():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name, _ in commands():
        group = name.split()[0]
        page = DOCS / f"commands/{group}.md"
        assert f"commands/{group}.md" in menu
        text = page.read_text(encoding="utf-8")
        # A group of commands alike shows one of them, and lists them all.
        assert f"<!-- options: {name} -->" in text or f"<!-- subcommands: {group} -->" in text, name


def test_every_command_and_every_group_has_an_example_in_its_help():
    program = typer.main.get_command(app)
    groups = [(name, group) for name, group in program.commands.items() if hasattr(group, "commands")]
    assert len(groups) >= 4
    for name, command in [("bertkit", program), *groups, *commands()]:
        examples = re.findall(r"Example: (.+)", command.help)
        assert examples, name
        for example in examples:
            # Folded lines belong to the example.
            whole = " ".join(command.help[command.help.index(example) :].split("\n\n")[0].split())
            if whole.startswith("bertkit "):
                parse(shlex.split(whole)[1:])


def test_every_public_name_is_in_the_reference_and_can_be_imported():
    text = (DOCS / "reference/api.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"<!-- api: (.+?) -->", text)).split()
    assert sorted(named) == bertkit.__all__
    in_full = " ".join(re.findall(r"<!-- api_of: (.+?) -->", text)).split()
    assert set(bertkit.model.__all__) <= {*named, *(name.rpartition(".")[2] for name in in_full)}
    for name in in_full:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
            assert anchor in slugs, (anchor, slugs)


@pytest.mark.parametrize(("chinese", "english"), ENGLISH.items(), ids=lambda page: page.name)
def test_the_chinese_pages_have_the_code_of_the_english_ones(chinese, english):
    def code(page):
        found = blocks(page, "", "bash", "python", "text")
        return [[re.sub(r"\s+#.*$", "", line) for line in block.splitlines()] for block in found]

    assert len(code(english)) >= 5
    assert code(chinese) == code(english)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_page_names_a_place_on_somebodys_machine_or_is_unfinished(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|root|work|tmp|Users)/|[A-Z]:\\Users|@@|TODO|FIXME", text)


def messages():
    """Every text of the sources as one string a message, what is filled in replaced by a mark."""
    for path in (ROOT / "bertkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted_errors():
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            cell = re.match(r"\| (?:a warning )?`([^`]+)`.* \| .+ \|$", line)
            if (
                cell
                and (" " in cell[1] or "..." in cell[1])
                and ("..." in cell[1] or page.name == "troubleshooting.md")
            ):
                yield page.name, cell[1]


def test_the_errors_that_the_documentation_explains_are_those_of_the_program():
    known = list(messages())
    quoted = list(quoted_errors())
    assert len(quoted) > 25
    for page, message in quoted:
        parts = [part.strip() for part in message.split("...")]
        parts = [part for part in parts if len(part) >= LEAST_QUOTED_CHARS]
        assert parts, (page, message)
        for part in parts:
            assert any(part in text for text in known), (page, message, part)


def test_the_extras_of_the_installation_page_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"bertkit\[(\w+)\]", (DOCS / "installation.md").read_text(encoding="utf-8"))
    assert set(named) == set(project["optional-dependencies"]) - {"dev"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == bertkit.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)


def test_the_forms_of_issues_are_valid_and_ask_for_what_doctor_says():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))
        assert all(field["attributes"]["label"] for field in form["body"])
    assert "bertkit doctor --json" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8")


@pytest.fixture
def generate(monkeypatch):
    """The hook of the site's build."""
    pytest.importorskip("mkdocs", reason="needs pip install '.[docs]'")
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("generate")


def test_what_is_filled_in_comes_from_the_program(generate):
    for page in PAGES:
        for name, argument in generate.MARKER.findall(page.read_text(encoding="utf-8")):
            assert list(generate.FILLERS[name](*([argument] if argument else []))), (page, name)
    shown = "\n".join(generate.options("pretrain"))
    assert "| `--max-minutes NUMBER`{ .whole } |" in shown
    assert "bertkit pretrain CORPUS [OPTIONS]" in shown
    assert "| `optim.learning_rate`{ .whole } |" in "\n".join(generate.settings("finetune"))
    assert "**Measured** | 2026-11-23, 9 minutes on ONE core" in "\n".join(generate.recipes("pretrain"))


def test_a_marker_that_nothing_fills_in_ends_the_build_and_names_itself(generate):
    from mkdocs.exceptions import PluginError

    with pytest.raises(
        PluginError, match=r"page.md: there is nothing called 'optoins' to fill in; there are options, "
    ):
        generate._filled(generate.MARKER.fullmatch("<!-- optoins: pretrain -->"), "page.md")


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[figures](../../recipes/README.md#speed)", "[figures](../measured.md#speed)"),
        ("[configurations](../../recipes/slurm)", "[configurations](../recipes.md)"),
        ("[Citation](../../CITATION.cff)", "Citation"),
        ("[a page](../recipes.md)", "[a page](../recipes.md)"),
        ("[elsewhere](https://example.org/README.md)", "[elsewhere](https://example.org/README.md)"),
        ("[here](#speed)", "[here](#speed)"),
    ],
)
def test_links_to_files_of_the_repository_become_pages_or_names(generate, link, on_the_site):
    here = "commands/bench.md"
    assert generate.LINK.sub(lambda found: generate._linked(found, f"docs/{here}", here), link) == on_the_site


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_a_network(tmp_path):
    pytest.importorskip("material", reason="needs pip install '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="needs pip install '.[docs]'")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img|iframe)\b[^>]+(?:src|href)=\"https?://(?!127)", text), page
        assert "<!-- options" not in text
