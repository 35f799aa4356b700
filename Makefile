# make demo, make test: the two commands. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

PLAN := params.yaml

.PHONY: setup demo demo-enhancers test test-slow lint serve ui clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "adcore needs Python 3.11: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo,faiss,mobilenetv2,vit,test]'
	@touch $(READY)

demo-enhancers: PLAN := suites/demo-enhancers.yaml

demo demo-enhancers: $(READY)
	@$(BIN)/python -m flows.benchmark --plan $(PLAN); code=$$?; \
	if [ $$code -eq 0 ] || [ $$code -eq 3 ]; then \
		echo "report:   results/report.html"; \
		echo "tables:   results/leaderboard.md and results/leaderboard.csv"; \
		if [ -e results/enhancers.md ]; then echo "enhancers: results/enhancers.md and results/latency.md"; fi; \
		echo "MLflow:   make ui"; \
	fi; exit $$code

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

serve: $(READY)
	$(BIN)/python -m flows.serve

ui: $(READY)
	$(BIN)/python -m flows.ui

clean:
	rm -rf .cache results artifacts mlartifacts mlflow.db
