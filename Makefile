PYTHON ?= python3
ENV ?= dev
export SAM_CLI_TELEMETRY := 0

BIN := .venv/bin
DEDUP = DEDUP_URL=http://127.0.0.1:$${PORT:-3000} $(BIN)/python -m cli

# What is installed in .venv: the packages of requirements-run.txt, or those of requirements-dev.txt, which includes them.
RUN := .venv/run-installed
DEV := .venv/dev-installed

.DEFAULT_GOAL := help

.PHONY: help dev run sample upload verify event spark test-unit test test-full lint lint-format lint-code lint-types \
	lint-templates lint-security lint-secrets lint-packages fuzz fuzz-files load attack bench bench-check bench-matching openapi \
	redoc picture web-lib lock deploy job-code rds-roots sam-local invoke test-sam-local

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

##@ Run it on this machine
run: $(RUN) ## Start the API, the page, PostgreSQL and a local S3; PORT=3000
	@$(BIN)/python -m local

sample: $(RUN) ## Load the sample records into the running stack and print what the API says of them
	@$(DEDUP) upload samples/customers.csv
	@$(DEDUP) analyze
	@$(DEDUP) compare
	@$(DEDUP) regions

upload: $(RUN) ## Upload a file to the running stack; FILE=path SOURCE=hubspot, MODE=replace for a snapshot, upsert for what changed
	$(if $(FILE),,$(error FILE is missing: make upload FILE=path SOURCE=hubspot))
	@$(DEDUP) upload --source "$$SOURCE" --mode "$${MODE:-add}" -- "$$FILE"

verify: $(RUN) ## Recompute the counts from the records and correct what differs
	@FUNCTION=Verify $(BIN)/python -m local.invoke

event: $(RUN) ## Run one function on its sample event; FUNCTION=Analyze, EVENT=file for another event
	@FUNCTION="$(FUNCTION)" EVENT="$(EVENT)" $(BIN)/python -m local.invoke

spark: $(DEV) ## Count the regions of files on Spark, without a database; FILE=path or folder, SOURCE=hubspot, OUT=folder
	$(if $(FILE),,$(error FILE is missing: make spark FILE=path or a folder))
	@PYSPARK_PYTHON=$(abspath $(BIN))/python SPARK_LOCAL_IP=127.0.0.1 $(BIN)/python -m jobs.regions $(if $(SOURCE),--source "$$SOURCE") -- "$$FILE" "$${OUT:-.local/regions}"

##@ Develop
dev: $(DEV) ## Install what tests, lint, Spark and benchmarks need; the targets below do so themselves

# By file, in the order of the folders: those that start a stack first, the short ones last. All tests wait about half of
# the time, for processes, locks and timeouts: four share two cores well.
PYTEST = $(BIN)/pytest --dist loadfile --no-loadscope-reorder --numprocesses
WORKERS ?= 4

test-unit: $(DEV) ## Run the unit tests: no database, no network
	$(BIN)/pytest --dist worksteal --numprocesses logical --maxprocesses $(WORKERS) tests/unit

test: $(DEV) ## Run all tests; WORKERS=4 processes, each with a PostgreSQL and a stack of its own
	$(PYTEST) $(WORKERS)

test-full: $(DEV) ## Run all tests, with the full number of cases of the fault, fuzz and property tests
	TEST_BUDGET=full $(PYTEST) $(WORKERS)

lint: lint-format lint-code lint-types lint-templates lint-security lint-secrets lint-packages ## Run all checks below

lint-format: $(DEV) ## Check the format of the code
	$(BIN)/ruff format --check

lint-code: $(DEV) ## Check the code with ruff
	$(BIN)/ruff check

lint-types: $(DEV) ## Check the types
	$(BIN)/mypy

lint-templates: $(DEV) ## Check template.yaml and infrastructure/
	AWS_DEFAULT_REGION=eu-west-1 $(BIN)/sam validate --lint
	$(BIN)/cfn-lint

lint-security: $(DEV) ## Check the code for known weaknesses
	$(BIN)/bandit --quiet --recursive --severity-level medium --skip B608 layers functions jobs

# What finds a credential by its looks takes every id for one; ruff and bandit look for passwords in the code.
GUESSES := KeywordDetector HexHighEntropyString Base64HighEntropyString

lint-secrets: $(DEV) ## Check that no file holds a credential
	@git ls-files -z ':!functions/system/docs' ':!*requirements*.txt' ':!benchmarks/results' ':!*.pem' | xargs -0 $(BIN)/detect-secrets-hook --no-verify $(GUESSES:%=--disable-plugin %)

lint-packages: $(DEV) ## Check the layer's packages for known weaknesses
	@found=$$($(BIN)/pip-audit --progress-spinner off --disable-pip -r layers/requirements.txt 2> /dev/null) || \
		{ [ -z "$$found" ] && echo "pip-audit: the list of known weaknesses can't be reached from here"; } || { echo "$$found"; exit 1; }

openapi: $(RUN) ## Write functions/system/docs/openapi.json, after a change to a function's routes or models
	PYTHONPATH=layers $(BIN)/python -m local.openapi

picture: $(DEV) ## Take docs/page.png again, with the browser test
	PICTURE=docs/page.png $(BIN)/pytest tests/e2e/test_page.py -k picture

web-lib: ## Build web/lib.js, the page's libraries in one file, after a change in web/vendor; needs npm
	rm -rf .local/web-lib && mkdir -p .local && cp -r web/vendor .local/web-lib
	npm ci --silent --prefix .local/web-lib
	.local/web-lib/node_modules/.bin/esbuild .local/web-lib/lib.js --bundle --minify --format=esm --log-level=warning --outfile=web/lib.js
	cd .local/web-lib/node_modules && for of in $$(find . -maxdepth 3 -iname 'licen[cs]e*' ! -path '*esbuild*' | sort); do echo "== $$of"; cat $$of; done > ../../../web/lib.LICENSES.txt

redoc: ## Fetch ReDoc, without the logo that it would load from its makers' host; needs npm
	npm pack --silent --pack-destination /tmp redoc@2.5.4
	tar -xzOf /tmp/redoc-2.5.4.tgz package/bundles/redoc.standalone.js | sed -e 's#https://cdn.redoc.ly/redoc/logo-mini.svg#data:,#' -e '/^\/\/# sourceMappingURL=/d' > functions/system/docs/assets/redoc.js

lock: .venv/created ## Write every requirements.txt, after a change to a requirements.in
	$(LOCK) requirements-uv.in -o requirements-uv.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) -c requirements-dev.txt requirements-run.in -o requirements-run.txt
	$(LOCK) -c requirements-dev.txt layers/requirements.in -o layers/requirements.txt
	$(LOCK) -c requirements-dev.txt functions/deduplication/report/requirements.in -o functions/deduplication/report/requirements.txt
	$(LOCK) -c requirements-dev.txt functions/uploads/ingest/requirements.in -o functions/uploads/ingest/requirements.txt
	$(LOCK) -c requirements-dev.txt benchmarks/requirements.in -o benchmarks/requirements.txt
	$(LOCK) -c requirements-dev.txt benchmarks/matching/requirements.in -o benchmarks/matching/requirements.txt
	$(LOCK) -c requirements-dev.txt tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	$(LOCK) -c requirements-dev.txt jobs/requirements.in -o jobs/requirements.txt

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

##@ Fuzz and measure
FUZZ ?= 500
FUZZ_URL ?= http://127.0.0.1:3000

fuzz: $(DEV) ## Run schemathesis against a running `make run`; FUZZ=500 cases for each operation and phase
	$(BIN)/python -m schemathesis.cli --config-file tests/contract/schemathesis.toml run $(FUZZ_URL)/openapi.json --url $(FUZZ_URL) --max-examples $(FUZZ)

SECONDS ?= 60

fuzz-files: $(DEV) ## Run atheris on the readers of files; SECONDS=60
	@$(call install,tests/fuzz/requirements.txt)
	PYTHONPATH=layers:. $(BIN)/python tests/fuzz/files.py -max_total_time=$(SECONDS)

load: $(DEV) ## Run mixed work against a stack of its own and report errors, memory, connections and p99; MINUTES=30
	@PYTHONPATH=layers $(BIN)/python -m benchmarks.steady

attack: $(DEV) ## Attack a stack of its own with random histories, kills, skewed data and hostile input; MINUTES=60 SEED=1
	@PYTHONPATH=layers $(BIN)/python -m tests.attack

bench: $(DEV) ## Measure beside the stack that this replaces; SIZE=1M or 10M
	@$(call install,benchmarks/requirements.txt)
	@$(BIN)/python -m benchmarks

bench-check: $(DEV) ## After make bench: fail where a ratio is worse than the one in benchmarks/results
	@$(BIN)/python -m benchmarks check

bench-matching: $(DEV) ## Measure matching beside two other libraries; ARGS="--data febrl3 febrl4" for a part
	@$(call install,benchmarks/matching/requirements.txt)
	@$(BIN)/python -m benchmarks.matching $(ARGS)

##@ Deploy, and run in containers
deploy: $(RUN) ## Deploy to AWS; ENV=dev or prod; needs python3.13 and AWS credentials
	$(BIN)/sam build
	@printf "Revision: '%s%s'\n" "$$(date +%s)" "$$(git rev-parse --short HEAD)" > .aws-sam/revision.yaml
	$(BIN)/sam deploy --config-env $(ENV) $(DEPLOY)

job-code: $(RUN) ## Package what EMR Serverless runs, see docs/how-to/deploy.md; on Linux x86-64
	rm -rf .local/code && mkdir -p .local/code/python
	$(UV) python install --quiet --no-bin --install-dir .local/code/python 3.11
	cd .local/code/python && mv cpython-3.11*/* .
	$(UV) pip install --quiet --python .local/code/python/bin/python3.11 --break-system-packages --no-deps --require-hashes -r jobs/requirements.txt
	cp .local/code/python/lib/python3.11/site-packages/splink/internals/files/spark_jars/scala-udf-similarity-*_spark3.x.jar .local/code/similarity.jar
	tar -czf .local/code/python.tar.gz -C .local/code/python bin lib
	rm -rf .local/code/python
	cd layers && $(abspath $(BIN))/python -m zipfile -c ../.local/code/jobs.zip dedup ../jobs
	cp jobs/regions.py .local/code/
	cp jobs/matching/__main__.py .local/code/matching.py

rds-roots: ## Fetch RDS's certificate authorities, as AWS publishes them
	curl -fsS https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem -o layers/dedup/store/rds-roots.pem

sam-local: $(RUN) ## Run the stack in SAM CLI's containers; needs Docker and python3.13
	docker compose up --detach --wait
	$(BIN)/python -m local.sam_local

invoke: $(RUN) ## After make sam-local: run one function there on its sample event; FUNCTION=Analyze
	@$(BIN)/python -m local.sam_local $(FUNCTION)

test-sam-local: $(DEV) ## Run the end-to-end tests through containers; needs Docker and python3.13
	SAM_LOCAL=1 $(BIN)/pytest tests/e2e/test_sam_local.py

# uv of this machine, or the one that pip installs into .venv.
UV := $(shell uv --version > /dev/null 2>&1 && echo uv || echo $(BIN)/uv)
# $(call install,LIST): pip's configuration, such as a mirror of PyPI, is unknown to uv; where uv fails, pip is asked.
install = $(UV) pip install --python $(BIN)/python --no-deps --require-hashes -r $(1) || { \
	echo "uv failed to install $(1): trying again with pip, which takes some minutes." && $(PIP) -r $(1); }
PIP = $(BIN)/python -m pip install --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes

.venv/created: requirements-uv.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit("Python 3.11 to 3.14 is needed, and $(PYTHON) is %d.%d: say which with make PYTHON=python3.13 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@echo "Creating the environment .venv: once"
	@$(PYTHON) -m venv .venv
	@$(if $(filter uv,$(UV)),:,$(PIP) --quiet -r requirements-uv.txt)
	@touch $@

$(RUN): requirements-run.txt .venv/created
	@echo "Installing what make run needs: once, some 15 seconds"
	@$(call install,requirements-run.txt)
	@touch $@

# Compiled at once: the tests start hundreds of processes, also where PYTHONDONTWRITEBYTECODE is set.
$(DEV): requirements-dev.txt $(RUN)
	@echo "Installing what tests, lint, Spark and benchmarks need: once, about a minute"
	@$(call install,requirements-dev.txt)
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@
