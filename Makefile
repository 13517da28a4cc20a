# Everything a developer runs. A bare machine needs Python 3.11, git, make and a C++ compiler (for torch.compile).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two threads suit the smallest machine that all this is meant for; more would only make timings vary.
export OMP_NUM_THREADS ?= 2
# Three processes of one thread keep two cores busy, as many tests wait: `make test TEST_PROCESSES=0` has all in one process.
TEST_PROCESSES ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-kills test-mutations test-wheel experiments-quick lint docs format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## install into .venv; again only when pyproject.toml or constraints.txt has changed

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## train and evaluate on the bundled clips
	$(BIN)/everest demo

lint: setup  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy experiments

test: lint  ## lint, then all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

coverage: setup  ## all tests, a quarter slower; fails where under 85 % of the lines are run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --cov --cov-report=term

test-kills: setup  ## short runs, killed ninety times and started again: some five minutes
	$(BIN)/python -m pytest tests/kills/many_kills.py tests/kills/many_processes.py

test-mutations: setup  ## 1,000 damaged videos through index, check and loaders: half a minute
	$(BIN)/python -m pytest tests/mutations/many_mutations.py

experiments-quick: setup  ## every experiment, reduced to minutes, on the bundled clips: that they run, not what they find
	rm -rf build/experiments-quick
	OMP_NUM_THREADS=1 $(BIN)/python experiments/quick.py build/experiments-quick

docs: setup  ## the documentation site, into build/docs
	$(BIN)/python -m sphinx -c docs -E -W --keep-going -q . build/docs
	@echo "build/docs/index.html"

test-wheel: setup  ## the wheel, installed with its dependencies where nothing was, runs the whole demo: some ten minutes
	$(BIN)/python -m pytest -rP tests/packages/installed_demo.py

format: setup  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, caches and build results; runs/ stays
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
