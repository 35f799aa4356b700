# make demo, make test: the two commands. Both set up what they need.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test test-slow lint serve ui clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "adcore needs Python 3.11; install it, or: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,faiss,test]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python -m flows.benchmark --plan params.yaml
	@echo "report:   results/report.html"
	@echo "tables:   results/leaderboard.md and results/leaderboard.csv"
	@echo "MLflow:   make ui"

test: lint
	$(BIN)/python -m pytest

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
