PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint

run: .venv/installed
	@$(BIN)/python -m local

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint

.venv/installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit("Python 3.11 to 3.14 is needed, and $(PYTHON) is %d.%d: say which with make PYTHON=python3.13 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@echo "Installing requirements-dev.txt into .venv: once, a minute or two."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements-dev.txt
	@touch $@
