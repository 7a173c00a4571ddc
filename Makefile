# Two commands: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many processes run the tests: one per processor, four at most (assets_tests/conftest.py); 0 for none but
# pytest's own. A debugger needs that, and has it with `.venv/bin/python -m pytest --pdb assets_tests/…`.
WORKERS ?= auto
SIZE ?= quick
# worksteal gives each worker a stretch of the tests in their order, and whoever is done takes half of what
# another has left: rooms stay whole, so their fixtures are made once, and all workers end together.
PYTEST := $(BIN)/python -m pytest
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run up test test-all lint check bench audit licences clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed ## Install, then run the whole loop once on the registered sources
	@$(BIN)/honeloop run

up: $(VENV)/.installed ## Install, then start the database, the Dagster UI and its daemon
	@$(BIN)/honeloop up

test: $(VENV)/.installed-test ## Install, then run the tests (minutes); WORKERS=… processes
	@$(PYTEST) -n $(WORKERS) --dist worksteal

# The slow ones measure the machine or fill it: each has it for itself.
test-all: test ## The tests, then the slow ones, one after another
	@$(PYTEST) -m slow

lint: $(VENV)/.installed-test $(VENV)/.installed-lint ## ruff and pyright
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

check: $(VENV)/.installed ## Every asset check against the current state
	@$(BIN)/honeloop check

audit: $(VENV)/.installed-audit ## Known vulnerabilities of the pinned packages; says so if they cannot be asked for
	@.ci/audit

licences: $(VENV)/.installed-audit ## The licences of all that is installed; fails on one that does not fit
	@$(BIN)/python .ci/licences

bench: $(VENV)/.installed-bench ## Side-by-side measurements (minutes); SIZE=full takes hours, ONLY="NAME …" these alone
	@$(BIN)/python -m assets_tests.benchmarks --size $(SIZE) $(if $(ONLY),--only $(ONLY)) $(ROOTS:%=--root %)

clean: ## Remove the virtual environment (never the data under .honeloop)
	rm -rf $(VENV) *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 14) else "Honeloop needs Python 3.11 to 3.14; set PYTHON=…")'
	@$(PYTHON) -m venv $(VENV)

# A stamp per set of packages, so that a second `make run` installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Honeloop and its pinned dependencies into $(VENV) (a minute or two) …"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Honeloop, its pinned dependencies and the test tools into $(VENV) …"
	@$(PIP) -e ".[test]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-audit: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) -e ".[test,audit]"
	@touch $@

# What of the extras is compared: ONNX Runtime.
$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Honeloop, its pinned dependencies and ONNX Runtime into $(VENV) …"
	@$(PIP) -e ".[onnx]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) -e ".[lint]"
	@touch $@
