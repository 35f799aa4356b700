# make demo, make test: the two commands. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

PLAN := params.yaml

.PHONY: help fix setup demo demo-enhancers test test-slow lint docs serve ui clean
.DEFAULT_GOAL := demo

help: ## this list
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+)[^#]*## /\1	/' | expand -t 16

setup: $(READY) ## make .venv, or bring it up to date

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "adcore needs Python 3.11: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
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

test: lint ## lint, types, documentation and the default tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4

test-slow: $(READY) ## the tests of minutes: kills, full disks, wheels
	$(BIN)/python -m pytest -m slow

lint: docs ## ruff, mypy, and every link of the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY) ## the documentation as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

fix: $(READY) ## format, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(READY) ## Prefect's server and the deployments, until Ctrl-C
	$(BIN)/python -m flows.serve

ui: $(READY) ## MLflow's pages, until Ctrl-C
	$(BIN)/python -m flows.ui

clean: ## throw all results away, and keep data
	rm -rf .cache results artifacts mlartifacts mlflow.db site
