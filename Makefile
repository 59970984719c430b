# Needs Python 3.11 or 3.12, make and a POSIX shell; brings everything else.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
# uv, if it is on PATH; else one of our own.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
BIN := .venv/bin
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit chaos fuzz soak check audit format lock clean

help: ## this list
	@$(or $(PYTHON),false) -c "import re; [print(f'make {m[1]:8} {m[2]}') for m in re.finditer(r'^(\w+):.*## (.*)', open('Makefile').read(), re.M)]"

setup: .venv/ready ## the environment .venv, with Java and the jars

demo: setup ## see it work: broker, cluster, model, shoppers, recommendations
	$(BIN)/shopstream demo

test: setup ## every test, two at a time
	$(BIN)/pytest -n 2 --dist worksteal

unit: setup ## the tests that need neither Java nor Kafka
	$(BIN)/pytest tests/unit

chaos: export SHOPSTREAM_CHAOS_EVENTS ?= 4000
chaos: setup ## kill processes, fill disks, break bundles, send hostile records in mid-work, half an hour
	$(BIN)/pytest -m '' tests/chaos

fuzz: setup ## a million inputs for the parsers, guided by what they reach (Linux)
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz.py

soak: setup ## the job at half of its capacity for half an hour: what grows
	$(BIN)/python -m bench soak --minutes 30 --chart docs/soak.svg

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: setup ## known vulnerabilities of what is locked for task managers; asks the package index
	$(UV) tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements/runtime.lock

format: setup ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(UV) ## resolve all versions anew into requirements/
	$(COMPILE) --upgrade --all-extras pyproject.toml -o requirements/dev.lock
	$(COMPILE) -c requirements/dev.lock requirements/runtime.in -o requirements/runtime.lock
	$(COMPILE) --upgrade requirements/peers-encode.in -o requirements/peers-encode.lock
	$(COMPILE) --upgrade requirements/peers-pipeline.in -o requirements/peers-pipeline.lock
	echo uv | $(COMPILE) - -o requirements/uv.txt
	$(BIN)/python -m deploy.local.jars --lock

clean: ## stop what runs, remove the environment and all local data
	-$(BIN)/shopstream flink stop
	-$(BIN)/shopstream kafka stop
	rm -rf .venv .uv .shopstream

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed, and none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

.venv/ready: pyproject.toml requirements/dev.lock requirements/jars.lock | $(UV)
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed, and none was found on PATH" >&2; exit 1; }
	test -x $(BIN)/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --compile-bytecode requirements/dev.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m deploy.local.jars
	touch $@
