"""What the package promises as a whole: its names, its layers, its sizes, its README."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertkit

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "bertkit").rglob("*.py"))


def test_public_names_are_sorted_and_exactly_what_can_be_imported():
    assert bertkit.__all__ == sorted(bertkit.__all__)
    for name in bertkit.__all__:
        assert getattr(bertkit, name).__name__ == name
        assert name in dir(bertkit)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        bertkit.nonsense  # noqa: B018


def test_layers_import_downwards_only():
    # In a process of its own: import-linter switches off every logger that exists.
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    linted = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (550 if path.name == "modeling_bertkit.py" else 400)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_the_library_prints_nothing_and_checks_nothing_by_assert():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
            assert not is_print or "cli" in path.parts, path


def test_nothing_is_unpickled():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"\bimport pickle\b|torch\.load\(|allow_pickle=True|trust_remote_code=True|yaml\.load\(", text
        ), path


def test_every_public_function_and_class_has_a_docstring():
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"
