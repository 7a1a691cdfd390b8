PYTHON ?= python3
BIN := .venv/bin
export SAM_CLI_TELEMETRY := 0

.PHONY: run sample upload verify invoke test lint openapi lock

run: .venv/installed
	@$(BIN)/python -m local

sample: .venv/installed
	@$(BIN)/python -m local.sample

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	AWS_DEFAULT_REGION=eu-west-1 $(BIN)/sam validate --lint

openapi: .venv/installed # after a change to a function's routes or models
	PYTHONPATH=layers $(BIN)/python -m local.openapi

lock: # after a change to a requirements.in
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) -c requirements-dev.txt layers/requirements.in -o layers/requirements.txt

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.venv/installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit("Python 3.11 to 3.14 is needed, and $(PYTHON) is %d.%d: say which with make PYTHON=python3.13 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@echo "Installing requirements-dev.txt into .venv: once, about a minute."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements-dev.txt
	@touch $@
