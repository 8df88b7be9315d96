# README's two commands are `make train` and `make test`; the rest is for contributors.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread each for the two test processes: more only makes them wait for each other.
PYTEST = OMP_NUM_THREADS=1 MLCORE_STRICT_PLUGINS=1 $(BIN)/pytest -n 2 --dist loadfile

.PHONY: train test test-slow test-gpu lint format docs install clean

train: $(VENV)/.installed
	$(BIN)/mlcore train --loss proposed

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not gpu and not browser"

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m "slow or browser"
	$(BIN)/python -m benchmarks --quick

# Needs a CUDA device; each test skips with a reason where there is none.
test-gpu: $(VENV)/.installed-dev
	$(BIN)/pytest -m gpu tests/gpu

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages that are written from docstrings; a test says when they are stale.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing; torch and its CUDA libraries are several GB, so this takes a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
