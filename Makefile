# Needs Python 3.11 or 3.12, make and a POSIX shell; installs everything else.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
# uv from PATH, or else in .uv.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
BIN := .venv/bin
DIST := dist
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit chaos fuzz soak check docs gpu-pack wheel audit format lock clean

help: ## this list
	@$(or $(PYTHON),false) -c "import re; [print(f'make {m[1]:8} {m[2]}') for m in re.finditer(r'^([\w-]+):.*## (.*)', open('Makefile').read(), re.M)]"

setup: .venv/ready ## the environment .venv, with Java and the jars

demo: setup ## see it work: broker, cluster, model, shoppers, recommendations
	$(BIN)/shopstream demo

test: setup ## every test, two at a time
	$(BIN)/pytest -n 2

unit: setup ## the tests that need neither Java nor Kafka
	$(BIN)/pytest tests/unit

chaos: export SHOPSTREAM_CHAOS_EVENTS ?= 4000
chaos: setup ## kill processes, fill disks, break bundles, send hostile records while jobs run; half an hour
	$(BIN)/pytest -m '' tests/chaos

fuzz: setup ## fuzz the parsers with a million inputs, guided by coverage (Linux), and the file reader with 100,000 rows
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz.py
	SHOPSTREAM_FUZZ_ROWS=$${SHOPSTREAM_FUZZ_ROWS:-100000} $(BIN)/pytest --timeout 7200 tests/unit/udfs/events/test_hostile_files.py

soak: setup ## the job at half its capacity for half an hour, and what grows
	$(BIN)/python -m bench soak --minutes 30 --chart docs/soak.svg

gpu-pack: setup ## the encoder in pieces for a GPU machine without a network, in build/gpu-pack
	$(BIN)/python -m bench gpu-pack

check: setup ## format, lint, types, imports between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup ## the documentation site, in build/site; broken links and other warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml

# build/lib would bring files along that the repository no longer has.
wheel: $(UV) setup ## a wheel, in dist/
	rm -rf build/lib
	$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir $(DIST)

audit: setup ## known vulnerabilities in runtime.lock; asks the package index
	$(UV) tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements/runtime.lock

format: setup ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(UV) ## resolve all versions again, into requirements/ and deploy/local/jars.lock
	$(COMPILE) --upgrade --all-extras pyproject.toml -o requirements/dev.lock
	$(COMPILE) -c requirements/dev.lock requirements/runtime.in -o requirements/runtime.lock
	$(COMPILE) --no-deps -c requirements/dev.lock requirements/gpu.in -o requirements/gpu.lock
	$(COMPILE) --upgrade requirements/peers-encode.in -o requirements/peers-encode.lock
	$(COMPILE) --upgrade requirements/peers-pipeline.in -o requirements/peers-pipeline.lock
	echo uv | $(COMPILE) - -o requirements/uv.txt
	$(BIN)/python -m deploy.local.jars --lock

clean: ## stop local services; remove the environment, builds and all local data
	-$(BIN)/shopstream flink stop
	-$(BIN)/shopstream kafka stop
	rm -rf .venv .uv .shopstream build dist

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed, and none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

.venv/ready: pyproject.toml requirements/dev.lock deploy/local/jars.lock | $(UV)
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed, and none was found on PATH" >&2; exit 1; }
	test -x $(BIN)/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --compile-bytecode requirements/dev.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m deploy.local.jars
	touch $@
