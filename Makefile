# One-line targets; `make help` lists them. Each makes its own environment first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench cluster-test format generate pictures clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/ -/'

setup: $(VENV)/.ready ## make the environment in .venv from uv.lock

$(VENV)/.ready: pyproject.toml uv.lock .ci/setup
	@PYTHON=$(PYTHON) bash .ci/setup

demo: setup ## run the orders example for real, kill it in the middle, check every number
	$(RUN)python examples/orders/demo.py

test: setup ## run everything that this machine can run, real Postgres and API server included, but no real nodes
	$(RUN)python -m pytest --numprocesses=2 --dist=loadgroup -m "not node and not long"

cluster-test: setup ## the same for the cluster alone, with a real node: pods that run, killed and rolled (needs Go and root)
	$(RUN)python -m tests.cluster.toolchain.build all
	$(RUN)python -m pytest tests/cluster tests/chart

check: setup ## ruff, pyright strict, import contracts, generated files
	$(RUN)ruff format --check . && $(RUN)ruff check . && $(RUN)pyright && $(RUN)lint-imports && $(RUN)python -m tests.typing.check && $(RUN)python -m stepwell_operator.crd --check && $(RUN)python -m stepwell_operator.crd --check --folder charts/stepwell/files/crds && $(RUN)python -m stepwell_operator.monitoring --check

bench: setup ## measure W1 to W6, scrapes and what metrics cost on both stores, and print the tables
	$(RUN)python -m tests.bench && $(RUN)python -m tests.bench.scrape && $(RUN)python -m tests.bench.metering

format: setup ## format and mend what can be mended
	$(RUN)ruff format . && $(RUN)ruff check --fix .

generate: setup ## write anew what is made from code: CRDs, rules, boards, the tables of metrics
	$(RUN)python -m stepwell_operator.crd && $(RUN)python -m stepwell_operator.crd --folder charts/stepwell/files/crds && $(RUN)python -m stepwell_operator.monitoring

pictures: $(VENV)-pictures/.ready ## draw the main boards for the docs anew, from a Prometheus and three minutes of the orders example
	$(VENV)-pictures/bin/python tests/monitoring/pictures.py

$(VENV)-pictures/.ready: pyproject.toml uv.lock .ci/setup
	@PYTHON=$(PYTHON) bash .ci/setup $(VENV)-pictures --no-dev --group pictures

clean: ## remove what the targets made
	rm -rf $(VENV) $(VENV)-pictures .demo .stepwell .pytest_cache .ruff_cache .hypothesis dist
