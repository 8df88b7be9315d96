# The README needs `make train` and `make test`; the rest is for contributors. Each target
# installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread for each of the two test processes: more threads only compete for two cores. The
# tests of a file stay together, but for those that an idle process takes over at the end.
PYTEST = OMP_NUM_THREADS=1 MLCORE_STRICT_PLUGINS=1 $(BIN)/pytest -n 2 --dist worksteal

.PHONY: train test test-base test-slow test-walk test-gpu lint format docs docs-site install clean

train: $(VENV)/.installed
	$(BIN)/mlcore train --loss proposed

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not walk and not gpu and not browser"

# Runs in the base installation too, where no extra is installed.
test-base: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/base

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m "slow or browser"
	$(BIN)/python -m benchmarks --quick

# Every option of every command and of the engine, by its effect: most of an hour, so not in CI.
test-walk: $(VENV)/.installed-dev
	$(PYTEST) -m walk

# Without a CUDA device each of these tests is skipped with a reason.
test-gpu: $(VENV)/.installed-dev
	$(BIN)/pytest -m gpu tests/gpu

lint: $(VENV)/.installed-dev docs-site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Regenerates the pages that come from docstrings; a test fails while they are out of date.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

# The documentation site in build/site; a warning, such as a dead link, fails the build.
docs-site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing mlcore; torch and its CUDA libraries are several GB and take a few minutes."
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) -e ".[test]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP_INSTALL) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
