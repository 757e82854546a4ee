# Every target does its own set-up: a fresh machine needs Python 3.11+ and make, nothing else.
# `make help` lists the targets.

# The Python that .venv is made with. Unset: the newest of these that runs and is 3.11 or newer.
PYTHON ?=
PYTHONS := python3.13 python3.12 python3.11 python3

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCK := requirements.lock
PIPELINE_LOCK := requirements/pipeline.lock
UV_LOCK := requirements/uv.lock
PYTEST := $(BIN)/pytest

# Hashes; no address of an index, and no name of the machine that resolved them.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

# It looks for newer versions of itself on the network otherwise.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint fmt pytest test-kafka schemas docs lock clean chaos bench-recovery \
	bench bench-quick bench-report bench-lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## run a simulated fleet of agents through the whole pipeline
	@$(BIN)/marlin demo

test: lint pytest ## lint and type checks, then every test that needs no Java

lint: $(INSTALLED) ## ruff, mypy and pyright, all strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

pytest: $(INSTALLED)
	$(PYTEST) -m "not kafka"

test-kafka: $(INSTALLED) ## the tests on Apache Kafka (needs Java 17+ and Maven)
	$(PYTEST) -m kafka -rs

chaos: $(INSTALLED) ## kill everything at random and compare the sums (CHAOS="--minutes 10 --seeds 1 2 3")
	cd tests && ../$(BIN)/python -m chaos $(CHAOS)

bench-recovery: $(INSTALLED) ## how long recovery of a million runs and a fail-over take
	$(BIN)/python bench/recovery.py --runs 1000000
	$(BIN)/python bench/recovery.py --fail-over

# The peers' pins clash with Marlin's, so they have an environment and a lock of their own.
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
BENCH_LOCK := requirements/bench.lock
# apache or embedded, and what to measure (all of it if empty): throughput scaling latency steps
# sink sdk recovery; ledger only when named
BROKER ?= apache
BENCH ?=

bench: $(INSTALLED) $(BENCH_INSTALLED) ## measure everything (BROKER=embedded, BENCH="throughput latency")
	$(BIN)/python bench/run.py --broker $(BROKER) $(BENCH)

bench-quick: $(INSTALLED) $(BENCH_INSTALLED) ## a minute or two of every benchmark, to see that it works
	$(BIN)/python bench/run.py --quick --broker $(BROKER) $(BENCH)

bench-report: $(INSTALLED) $(BENCH_INSTALLED) ## write what was measured into docs/performance.md, with plots
	for broker in apache embedded; do test ! -f bench/out/$$broker.json || \
		$(BENCH_VENV)/bin/python bench/plots.py bench/out/$$broker.json docs/performance; done
	$(BIN)/python bench/report.py

bench-lock: $(INSTALLED) ## pin what Marlin is compared with again
	$(COMPILE) bench/requirements.in -o $(BENCH_LOCK) $(UV_FLAGS)

$(BENCH_INSTALLED): $(INSTALLED) $(BENCH_LOCK)
	@echo "Installing the peers into $(BENCH_VENV)"
	@test -x $(BENCH_VENV)/bin/python || $(BIN)/python -m venv $(BENCH_VENV)
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV)/bin/python --require-hashes -r $(BENCH_LOCK)
	@touch $@

fmt: $(INSTALLED) ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schemas: $(INSTALLED) ## write schemas/generated from the contracts
	$(BIN)/python -m marlin.schemas.generate

docs: $(INSTALLED) ## write docs/sql.md and docs/reference from the code
	$(BIN)/python -m marlin.sinks.document
	$(BIN)/python -m marlin.reference

EXTRAS := --extra pipeline --extra otel --extra grid --extra lake --extra reports --extra traces
lock: $(INSTALLED) ## pin the dependencies again (UV_FLAGS=--upgrade for newer ones)
	$(COMPILE) $(EXTRAS) --group dev --group integrations --group docs pyproject.toml -o $(LOCK) $(UV_FLAGS)
	$(COMPILE) $(EXTRAS) --constraint $(LOCK) pyproject.toml -o $(PIPELINE_LOCK) $(UV_FLAGS)

clean: ## remove everything that make created, the environment too
	rm -rf $(VENV) $(BENCH_VENV) build dist *.egg-info tests/kafka/broker/target \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(INSTALLED) ## only set up the environment, .venv

# Made again whenever what it depends on is newer; an environment that lost its Python is remade.
$(INSTALLED): $(LOCK) $(UV_LOCK) pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		python=; \
		for candidate in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
			if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
			then python="$$candidate"; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "make: no Python 3.11 or newer among: $(or $(PYTHON),$(PYTHONS))." >&2; \
			echo "Install one, or name it: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		echo "Creating $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV) || { \
			echo "make: $$python cannot create virtual environments." >&2; \
			echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	fi
	@echo "Installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(UV_LOCK) \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK) \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
			--editable . \
		|| { echo "make: installing failed. Is the package index reachable? Behind a mirror, set" >&2; \
			echo "PIP_INDEX_URL and UV_DEFAULT_INDEX. 'make clean' starts over." >&2; exit 1; }
	@touch $@

# Folder with the measured rows, `mlenergy_v3_llm.csv` and `validation.csv`; they are not part of Marlin.
SCIENCE ?= ../shared/science
# The peers' dependencies stay out of Marlin's environment and lock.
PEERS := $(VENV)/estimation-peers

.PHONY: bench-estimation
bench-estimation: $(INSTALLED) ## Marlin, EcoLogits and ecocost on measured rows (SCIENCE=folder)
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r bench/requirements-estimation.txt
	@$(BIN)/python bench/estimation.py $(SCIENCE) --peers $(PEERS)/bin/python
