# Two commands do everything on a machine with Python 3.11 or newer, make and a package index: make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-faults check lint types layers format build docs clean

demo: $(READY)  ## the whole story on a few minutes of CPU
	$(BIN)/bertkit demo

test: $(READY)  ## every test that is not marked slow
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test-slow: $(READY)  ## tests that train for minutes
	$(BIN)/pytest -m slow

test-faults: $(READY)  ## kills, full disks, damaged files, hostile input: half an hour on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -m faults -n 2 --dist loadgroup

check: lint types layers test  ## what CI runs

lint: $(READY)
	$(BIN)/ruff format --check bertkit tests docs
	$(BIN)/ruff check bertkit tests docs

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format bertkit tests docs
	$(BIN)/ruff check --fix bertkit tests docs

build: $(READY)  ## a wheel in dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bertkit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	# torch first and by its exact pin: a range would fetch several GB of CUDA packages.
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

docs: $(READY)  ## the site in site/; to look at it: $(BIN)/mkdocs serve
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
