# What a newcomer types. All of it runs without questions, from a fresh clone with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
SECONDS_EACH ?= 60
# For example PIP_EXTRA_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu", so that torch comes without CUDA.
PIP_EXTRA_ARGS ?=
# What to install torch from in place of the locked files, for example TORCH="torch==2.13.0+cpu": no hash is compared.
TORCH ?=

BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_EXTRA_ARGS)
# Each file is compared with the hash that is written down for it; what is not written down is not installed.
LOCKED = $(PIP) --no-deps --require-hashes --only-binary :all:
OURS = $(PIP) --no-deps --no-build-isolation -e .
PIN = $(TOOLS)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --generate-hashes \
  --no-annotate --constraints constraints.txt --custom-compile-command "make lock"
TOOLS := $(VENV)/tools/bin
# The stamp of a step is made when the step is through, so that a half-finished install is done again.
MADE := $(VENV)/.made

.DEFAULT_GOAL := help
.PHONY: help install audit test check bench soak docs lock vulnerabilities fuzz clean

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(MADE)-dev ## Make the environment .venv, with the command .venv/bin/redqubit.
	@echo "Ready: $(BIN)/redqubit --help"

audit: $(MADE)-run ## Audit a quantum network and its classical twin on handwritten digits, and write a report.
	$(BIN)/redqubit audit

test: $(MADE)-dev ## Run all tests, doctests and the examples of README.md and docs/.
	$(BIN)/redqubit doctor # compiles the kernel once, before the workers would do so each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -rs

check: $(MADE)-dev ## Format, lint, types and a few tests, in about a minute.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m tiny

bench: $(MADE)-bench ## Measure the engine against others, and write the table of docs/speed.md.
	$(BIN)/python benchmarks/speed.py --markdown docs/speed.md

soak: $(MADE)-dev ## Break runs in every way for long, and count what is lost.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak -rs

docs: $(MADE)-docs ## Build the documentation site; build/site/index.html opens from disk.
	OMP_NUM_THREADS=1 $(BIN)/mkdocs build --quiet

lock: $(MADE)-tools ## Write the locks again, with hashes, for the versions in constraints.txt.
	$(PIN) pyproject.toml locks/build.in --excludes locks/cuda.txt --no-emit-package torch -o locks/run.txt
	$(PIN) pyproject.toml locks/build.in --extra dev --excludes locks/cuda.txt --no-emit-package torch -o locks/dev.txt
	echo torch | $(PIN) - -o locks/torch.txt

vulnerabilities: $(MADE)-tools ## Look up known faults of all locked packages; one that cannot be looked up fails too.
	$(TOOLS)/pip-audit --strict --require-hashes --disable-pip -s pypi -r locks/dev.txt -r locks/torch.txt

fuzz: $(MADE)-fuzz ## Feed broken files to every reader, each for SECONDS_EACH; what breaks one is kept.
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzzing.py $(SECONDS_EACH)

clean: ## Remove the environment, caches and runs.
	rm -rf $(VENV) runs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'RedQubit needs Python 3.11 or newer, and "$(PYTHON)" is none: try "make PYTHON=python3.12 install".' >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The build of torch without CUDA where one is at hand, else that of PyPI; a wrong hash stops it either way.
$(MADE)-torch: $(MADE)-venv locks/torch.txt locks/torch-cpu.txt
	@if [ -n "$(TORCH)" ]; then $(PIP) --no-deps "$(TORCH)"; \
	elif $(PIP) --no-deps --dry-run "$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' locks/torch-cpu.txt)" >/dev/null 2>&1; \
	then $(LOCKED) -r locks/torch-cpu.txt; else $(LOCKED) -r locks/torch.txt; fi
	@touch $@

$(MADE)-run: $(MADE)-torch locks/run.txt pyproject.toml
	$(LOCKED) -r locks/run.txt
	$(OURS)
	$(BIN)/python -m pip check
	@touch $@

$(MADE)-dev: $(MADE)-run locks/dev.txt
	$(LOCKED) -r locks/dev.txt
	$(BIN)/python -m pip check
	@touch $@

$(MADE)-fuzz: $(MADE)-dev
	$(PIP) -c constraints.txt -e ".[fuzz]"
	@touch $@

$(MADE)-tools: constraints.txt
	$(PYTHON) -m venv $(VENV)/tools
	$(TOOLS)/python -m pip install --quiet uv==0.13.9 pip-audit==2.10.1
	@touch $@

$(MADE)-bench: $(MADE)-dev
	$(PIP) -c constraints.txt -e ".[bench]"
	@touch $@

$(MADE)-docs: $(MADE)-run
	$(PIP) -c constraints.txt -e ".[docs]"
	@touch $@
