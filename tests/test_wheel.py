"""What is installed from the wheel works by itself: recipes found, templates inside, no source tree near."""

import json
import os
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from toy_corpus import write_corpus
from typer.testing import CliRunner

import bertkit
from bertkit.cli import app

ROOT = Path(__file__).parents[1]
RECIPES = {path.relative_to(ROOT / "recipes").as_posix(): path for path in (ROOT / "recipes").rglob("*.yaml")}

pytest.importorskip("hatchling")


def build(kind, source, folder):
    """The one file that the build backend of pyproject.toml makes; nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    ran = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist") / "dist")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the source distribution alone, as package indexes have it."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", source, folder / "dist")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a command of an environment that has bertkit from the wheel and all else from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    places = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
    python = Path(places["scripts"]) / ("python.exe" if os.name == "nt" else "python")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    ran = subprocess.run([*install, str(wheel)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    # A line of such a file is a path; an installation of bertkit for development there is not followed.
    Path(places["purelib"], "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(program, *arguments):
        command = [str(Path(places["scripts"]) / program), *map(str, arguments)]
        said = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    return run


def test_the_wheel_holds_every_file_of_the_package_the_recipes_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bertkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"bertkit/py.typed", "bertkit/hub/card.md.jinja", "bertkit/workflows/serve/page/page.html"} <= package
    recipes = {f"bertkit/recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" for path in RECIPES.values()}
    assert package | recipes <= found
    assert all(name.startswith("bertkit/") for name in found)


def test_the_wheel_is_for_any_system_and_says_which_pythons_and_which_licence(wheel):
    assert wheel.name == f"bertkit-{bertkit.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("METADATA"))
        metadata = archive.read(name).decode()
        assert any(each.endswith("licenses/LICENSE") for each in archive.namelist())
    for line in ("Requires-Python: >=3.11", "License-Expression: Apache-2.0", "Provides-Extra: onnx"):
        assert line in metadata.splitlines()


def test_the_source_distribution_holds_what_the_tests_need_and_no_litter(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "recipes/small.yaml", "tests/test_wheel.py"}
    assert needed <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git/", ".venv", "runs/"))]


def test_the_command_and_the_module_are_those_of_the_wheel(installed):
    assert installed("bertkit", "--version") == f"bertkit {bertkit.__version__}\n"
    assert installed("python", "-m", "bertkit", "--version") == f"bertkit {bertkit.__version__}\n"
    place = Path(installed("python", "-c", "import bertkit; print(bertkit.__file__)").strip())
    assert not place.is_relative_to(ROOT)


def test_its_recipes_are_found_and_are_those_of_the_source(installed):
    listed = json.loads(installed("bertkit", "recipes", "ls", "--json"))
    assert listed == json.loads(CliRunner().invoke(app, ["recipes", "ls", "--json"]).stdout)
    assert {"tiny", "base", "finetune/paper"} <= listed.keys()
    assert installed("bertkit", "recipes", "show", "small") == RECIPES["small.yaml"].read_text(encoding="utf-8")


def test_it_resolves_a_run_of_a_shipped_recipe(installed, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    resolved = installed("bertkit", "pretrain", corpus, "--recipe", "tiny", "--dry-run")
    assert "hidden_size: 128" in resolved


def test_what_it_reads_of_its_own_beside_code_is_there(installed):
    script = (
        "from importlib.resources import files; root = files('bertkit');"
        "print(root.joinpath('hub/card.md.jinja').is_file(), root.joinpath('workflows/serve/page/page.js').is_file())"
    )
    assert installed("python", "-c", script).split() == ["True", "True"]
