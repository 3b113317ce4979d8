# Two commands do everything: `make demo` and `make test`. Both set up first, from nothing but python3.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_HOME := .uv
UV := $(shell command -v uv 2>/dev/null || echo $(UV_HOME)/bin/uv)

# Only as said to make itself: make demo DATABASE_URL=postgresql://...
ON := $(if $(filter command line,$(origin DATABASE_URL)),--database '$(DATABASE_URL)')

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak prove-the-proof mutants fuzz check format bench requirements clean

help:  ## Say what there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

setup: $(VENV)/.ready  ## Make .venv with everything pinned.

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@if ! command -v $(UV) >/dev/null 2>&1; then \
		echo "fetching uv into $(UV_HOME)"; \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --target $(UV_HOME) uv; \
	fi
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup  ## Watch it work: a sandbox, a storm with faults, a verdict.
	@$(BIN)/counterfoil demo --exit $(ON)

test: setup  ## Run the tests; TESTS=--both plays the scenarios on PostgreSQL too.
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal $(TESTS) tests

SEEDS ?= 1000
FIRST ?= 0

soak: setup  ## Play SEEDS seeds of the simulation, from FIRST on, on all cores.
	@$(BIN)/python -m tools.soak --seeds $(SEEDS) --first $(FIRST)

prove-the-proof: setup  ## Plant bugs one at a time: the simulation must find each.
	@$(BIN)/python -m tools.prove

mutants: setup  ## Mutation testing of the rules, and of the code of intents and leases; goes on where it was.
	@$(BIN)/python -m tools.mutants $(MODULES)

RUNS ?= 20000

fuzz: setup  ## Coverage-guided fuzzing, RUNS inputs for each target (Linux on x86-64 and ARM).
	@$(BIN)/python -m tools.fuzz --runs $(RUNS)

check: setup  ## Static checks: format, lint, types, who imports whom, dependencies.
	@$(BIN)/ruff format --check src tests tools
	@$(BIN)/ruff check src tests tools
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry src

format: setup  ## Format the code.
	@$(BIN)/ruff format src tests tools
	@$(BIN)/ruff check --fix src tests tools

bench: setup  ## Measure, each figure beside its limit from the same run.
	@$(BIN)/python -m tools.bench $(ON)

requirements: setup  ## Pin all dependencies anew, with hashes.
	@$(UV) pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --extra postgresql pyproject.toml -o requirements/run.txt
	@$(UV) pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --extra postgresql --group dev pyproject.toml -o requirements/dev.txt

clean:  ## Remove what the other targets made.
	@rm -rf $(VENV) $(UV_HOME) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
