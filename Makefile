# One-line targets; `make help` lists them. Each makes its own environment first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/ -/'

setup: $(VENV)/.ready ## make the environment in .venv from uv.lock

$(VENV)/.ready: pyproject.toml uv.lock .ci/setup
	@PYTHON=$(PYTHON) bash .ci/setup

demo: setup ## run the orders example for real, kill it in the middle, check every number
	$(RUN)python examples/orders/demo.py

test: setup ## run everything that this machine can run, real Postgres included
	$(RUN)python -m pytest

check: setup ## ruff, pyright strict, import contracts, generated files
	$(RUN)ruff format --check . && $(RUN)ruff check . && $(RUN)pyright && $(RUN)lint-imports && $(RUN)python -m tests.typing.check

bench: setup ## measure W1 to W6 on both stores and print the tables
	$(RUN)python -m tests.bench

format: setup ## format and mend what can be mended
	$(RUN)ruff format . && $(RUN)ruff check --fix .

clean: ## remove what the targets made
	rm -rf $(VENV) .demo .stepwell .pytest_cache .ruff_cache .hypothesis dist
