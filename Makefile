PYTHON ?= python3
BIN := .venv/bin
ENV ?= dev
DEDUP = DEDUP_URL=http://127.0.0.1:$${PORT:-3000} $(BIN)/python -m cli
export SAM_CLI_TELEMETRY := 0

.PHONY: attack bench-matching run sample upload spark job-code verify event invoke test lint fuzz bench bench-check openapi redoc picture web-lib lock deploy rds-roots sam-local test-sam-local load fuzz-files

run: .venv/installed
	@$(BIN)/python -m local

sample: .venv/installed
	@$(DEDUP) upload samples/customers.csv
	@$(DEDUP) analyze
	@$(DEDUP) compare
	@$(DEDUP) regions

upload: .venv/installed # FILE=path SOURCE=hubspot, MODE=replace for a snapshot
	$(if $(FILE),,$(error FILE is missing: make upload FILE=path SOURCE=hubspot))
	@$(DEDUP) upload --source "$$SOURCE" --mode "$${MODE:-add}" -- "$$FILE"

spark: .venv/installed # regions of files, on Spark: FILE=path or folder, SOURCE=hubspot where no folder says it, OUT=folder
	$(if $(FILE),,$(error FILE is missing: make spark FILE=path or a folder))
	@PYSPARK_PYTHON=$(abspath $(BIN))/python SPARK_LOCAL_IP=127.0.0.1 $(BIN)/python -m jobs.regions $(if $(SOURCE),--source "$$SOURCE") -- "$$FILE" "$${OUT:-.local/regions}"

verify: .venv/installed
	@FUNCTION=Verify $(BIN)/python -m local.invoke

event: .venv/installed # one function on its sample event, beside make run or without it: FUNCTION=Analyze, EVENT=file for another
	@FUNCTION="$(FUNCTION)" EVENT="$(EVENT)" $(BIN)/python -m local.invoke

test: .venv/installed # a PostgreSQL and a stack for each process
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	AWS_DEFAULT_REGION=eu-west-1 $(BIN)/sam validate --lint
	$(BIN)/cfn-lint
	$(BIN)/bandit --quiet --recursive --severity-level medium --skip B608 layers functions jobs
	@git ls-files -z ':!functions/docs' ':!*requirements*.txt' ':!benchmarks/results' ':!*.pem' | xargs -0 $(BIN)/detect-secrets-hook --no-verify $(GUESSES:%=--disable-plugin %)
	@found=$$($(BIN)/pip-audit --progress-spinner off --disable-pip -r layers/requirements.txt 2> /dev/null) || \
		{ [ -z "$$found" ] && echo "pip-audit: what is known of weaknesses can't be reached from here"; } || { echo "$$found"; exit 1; }

# What finds a credential by its looks takes every id for one; ruff and bandit look for passwords in the code.
GUESSES := KeywordDetector HexHighEntropyString Base64HighEntropyString

fuzz: .venv/installed # schemathesis against a running `make run`: FUZZ cases for each operation and phase
	$(BIN)/python -m schemathesis.cli --config-file tests/contract/schemathesis.toml run $(FUZZ_URL)/openapi.json --url $(FUZZ_URL) --max-examples $(FUZZ)

fuzz-files: .venv/installed # atheris on the readers of files, for SECONDS
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r tests/fuzz/requirements.txt
	PYTHONPATH=layers:. $(BIN)/python tests/fuzz/files.py -max_total_time=$(SECONDS)

SECONDS ?= 60
FUZZ ?= 500
FUZZ_URL ?= http://127.0.0.1:3000

bench: .venv/installed # beside the stack that this replaces; SIZE=1M or 10M
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks

bench-check: .venv/installed # after make bench: exits 1 where a ratio fell behind the kept table
	@$(BIN)/python -m benchmarks check

load: .venv/installed # MINUTES of mixed work against a stack of its own: errors, memory, connections, p99
	@PYTHONPATH=layers $(BIN)/python -m benchmarks.steady

attack: .venv/installed # MINUTES of random histories with kills, skewed data and hostile input against a stack of its own, from SEED
	@PYTHONPATH=layers $(BIN)/python -m tests.attack

bench-matching: .venv/installed # records put together, beside two other libraries; ARGS="--data febrl3 febrl4" for a part
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r benchmarks/matching/requirements.txt
	@$(BIN)/python -m benchmarks.matching $(ARGS)

job-code: # what EMR Serverless runs, see docs/operations.md; needs uv, on Linux x86-64
	rm -rf .local/code && mkdir -p .local/code/python
	uv python install --quiet --no-bin --install-dir .local/code/python 3.11
	cd .local/code/python && mv cpython-3.11*/* .
	uv pip install --quiet --python .local/code/python/bin/python3.11 --break-system-packages --no-deps --require-hashes -r jobs/requirements.txt
	cp .local/code/python/lib/python3.11/site-packages/splink/internals/files/spark_jars/scala-udf-similarity-*_spark3.x.jar .local/code/similarity.jar
	tar -czf .local/code/python.tar.gz -C .local/code/python bin lib
	rm -rf .local/code/python
	cd layers && $(abspath $(BIN))/python -m zipfile -c ../.local/code/jobs.zip dedup ../jobs
	cp jobs/regions.py jobs/match.py .local/code/

openapi: .venv/installed # after a change to a function's routes or models
	PYTHONPATH=layers $(BIN)/python -m local.openapi

redoc: # ReDoc itself, without the logo that it would fetch from its makers' host
	npm pack --silent --pack-destination /tmp redoc@2.5.4
	tar -xzOf /tmp/redoc-2.5.4.tgz package/bundles/redoc.standalone.js | sed -e 's#https://cdn.redoc.ly/redoc/logo-mini.svg#data:,#' -e '/^\/\/# sourceMappingURL=/d' > functions/docs/assets/redoc.js

picture: .venv/installed # docs/page.png, by the browser's test
	PICTURE=docs/page.png $(BIN)/pytest tests/e2e/test_page.py -k picture

web-lib: # web/lib.js: the libraries of the page as one file, after a change in web/vendor
	rm -rf .local/web-lib && mkdir -p .local && cp -r web/vendor .local/web-lib
	npm ci --silent --prefix .local/web-lib
	.local/web-lib/node_modules/.bin/esbuild .local/web-lib/lib.js --bundle --minify --format=esm --log-level=warning --outfile=web/lib.js
	cd .local/web-lib/node_modules && for of in $$(find . -maxdepth 3 -iname 'licen[cs]e*' ! -path '*esbuild*' | sort); do echo "== $$of"; cat $$of; done > ../../../web/lib.LICENSES.txt

rds-roots: # RDS's certificate authorities, as AWS publishes them
	curl -fsS https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem -o layers/dedup/rds-roots.pem

deploy: .venv/installed # ENV=dev or prod; needs python3.13 and AWS credentials
	$(BIN)/sam build
	@printf "Revision: '%s%s'\n" "$$(date +%s)" "$$(git rev-parse --short HEAD)" > .aws-sam/revision.yaml
	$(BIN)/sam deploy --config-env $(ENV) $(DEPLOY)

sam-local: .venv/installed # the stack in containers; needs Docker and python3.13
	docker compose up --detach --wait
	$(BIN)/python -m local.sam_local

invoke: .venv/installed # after make sam-local: one function on its sample event; FUNCTION=Analyze
	@$(BIN)/python -m local.sam_local $(FUNCTION)

test-sam-local: .venv/installed # the end-to-end tests through containers
	SAM_LOCAL=1 $(BIN)/pytest tests/e2e/test_sam_local.py

lock: # after a change to a requirements.in
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) -c requirements-dev.txt layers/requirements.in -o layers/requirements.txt
	$(LOCK) -c requirements-dev.txt functions/report/requirements.in -o functions/report/requirements.txt
	$(LOCK) -c requirements-dev.txt benchmarks/requirements.in -o benchmarks/requirements.txt
	$(LOCK) -c requirements-dev.txt benchmarks/matching/requirements.in -o benchmarks/matching/requirements.txt
	$(LOCK) -c requirements-dev.txt tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	$(LOCK) -c requirements-dev.txt jobs/requirements.in -o jobs/requirements.txt

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.venv/installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit("Python 3.11 to 3.14 is needed, and $(PYTHON) is %d.%d: say which with make PYTHON=python3.13 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@echo "Installing requirements-dev.txt into .venv: once, about a minute."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r requirements-dev.txt
	@touch $@
