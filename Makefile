# What a newcomer types. All of it runs without questions, from a fresh clone with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
# For example PIP_EXTRA_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu", so that torch comes without CUDA.
PIP_EXTRA_ARGS ?=

BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_EXTRA_ARGS)
# The stamp of a step is made when the step is through, so that a half-finished install is done again.
MADE := $(VENV)/.made

.DEFAULT_GOAL := help
.PHONY: help install audit test check bench docs clean

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(MADE)-dev ## Make the environment .venv, with the command .venv/bin/redqubit.
	@echo "Ready: $(BIN)/redqubit --help"

audit: $(MADE)-run ## Audit a quantum network and its classical twin on handwritten digits, and write a report.
	$(BIN)/redqubit audit

test: $(MADE)-dev ## Run all tests, doctests and the examples of README.md and docs/.
	$(BIN)/redqubit doctor # compiles the kernel once, before the workers would do so each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -rs

check: $(MADE)-dev ## Format, lint, types and a few tests, in seconds.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m tiny

bench: $(MADE)-bench ## Measure the engine against others, and write the table of README.md.
	$(BIN)/python benchmarks/speed.py --markdown README.md

docs: $(MADE)-docs ## Build the documentation site; build/site/index.html opens from disk.
	OMP_NUM_THREADS=1 $(BIN)/mkdocs build --quiet

clean: ## Remove the environment, caches and runs.
	rm -rf $(VENV) runs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'RedQubit needs Python 3.11 or newer, and "$(PYTHON)" is none: try "make PYTHON=python3.12 install".' >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first and by its exact version, and constraints.txt keeps it there: no later step can replace it.
$(MADE)-torch: $(MADE)-venv constraints.txt
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(MADE)-run: $(MADE)-torch pyproject.toml
	$(PIP) -c constraints.txt -e .
	@touch $@

$(MADE)-dev: $(MADE)-run
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

$(MADE)-bench: $(MADE)-dev
	$(PIP) -c constraints.txt -e ".[bench]"
	@touch $@

$(MADE)-docs: $(MADE)-run
	$(PIP) -c constraints.txt -e ".[docs]"
	@touch $@
