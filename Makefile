# Everything sets up what it needs: a virtual environment in .venv, with the pinned versions of constraints.txt.
# On a fresh machine: Python 3.11 or newer with pip and venv, git, make. No Redis, no Docker.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint bench docs dist matrix clean

demo: .venv/.run
	@$(BIN)/okasie demo

# Most of the time goes into waiting for real processes: four at a time, also on two cores.
PYTEST_ARGS ?= -n 4
# The order of sets is the same each time too, so that the model-based tests take the same steps. The tests start
# hundreds of processes: none of them compiles the sources anew.
PYTEST := PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PYTEST_ARGS)

# What a newcomer runs: every part of the system, in minutes.
test: .venv/.dev
	$(PYTEST) -m 'not slow'

# And the rest: chaos, the model, real-time quota and races, a large feed, the package, a browser.
test-all: .venv/.dev
	$(PYTEST)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python benchmarks/limiter.py
	$(BIN)/python benchmarks/bench.py

docs: .venv/.dev
	$(BIN)/python -m mkdocs build --strict

# The wheel and the sdist, in dist/. The wheel is built from the sdist, so that both have the same content.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# The demo and a choice of tests with each Python, Redis and Valkey of this machine, and with the oldest dependencies:
# writes docs/supported-versions.md.
matrix: .venv/.dev
	$(BIN)/python -m tests.matrix

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build site

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer with venv is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ .venv/.run
