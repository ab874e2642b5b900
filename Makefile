# Each target works alone on a machine with Python 3.11 or newer: it makes .venv when there is none,
# and installs again only when pyproject.toml or constraints.txt changed.
#   make demo     a real flow on this machine's own Python files (no server, no configuration)
#   make test     the test suite           PYTEST_ARGS="-k chain -x" narrows it
#   make check    everything that reads the code without running it
#   make chaos    10,000 tasks while workers and servers die (SEED=... repeats one)
#   make test-hatchet  the suites of Hatchet on the engine that HATCHET_CLIENT_TOKEN and its like name
#   make bench    ratios to the bare task manager, side by side
#   make docs     checks that what the documentation links to is there

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := .venv/bin
PINS := pyproject.toml packages/thirdmagic/pyproject.toml constraints.txt tools/venv.sh
SOURCES := src tests tools $(wildcard bench examples packages)
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
# Pyright comes whole from its wheel; this keeps it from asking for newer versions.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-hatchet check fix chaos bench docs clean

help:
	@sed -n 's/^#   make/make/p' Makefile

.venv/.installed-%: $(PINS)
	@tools/venv.sh $*
	touch $@

demo: .venv/.installed-cli
	@$(BIN)/mageflow demo $(DEMO_ARGS)

test: .venv/.installed-dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-hatchet: .venv/.installed-dev
	@: "$${HATCHET_CLIENT_TOKEN:?is not set: a token of the engine to test on}"
	$(BIN)/python -m pytest -m "" --timeout=300 tests/hatchet $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "" --timeout=300 tests/compat -k hatchet $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "" --timeout=900 tests/chaos -k on_hatchet $(PYTEST_ARGS)

check: .venv/.installed-check
	@failed=()
	run() {
		echo "== $$*"
		"$$@" || failed+=("$$1")
	}
	run $(BIN)/ruff format --check $(SOURCES)
	run $(BIN)/ruff check $(SOURCES)
	run $(BIN)/pyright
	run $(BIN)/lint-imports --no-cache
	run $(BIN)/python tools/check_sizes.py
	run $(BIN)/pylint --score=n src packages tests
	run $(BIN)/vulture
	if (( $${#failed[@]} )); then
		echo "make check: failed: $${failed[*]##*/}"
		exit 1
	fi
	echo "make check: all passed"

fix: .venv/.installed-check
	@$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

chaos: .venv/.installed-dev
	@MAGEFLOW_CHAOS_TASKS=10000 MAGEFLOW_CHAOS_SECONDS=120 MAGEFLOW_CHAOS_SEED=$(SEED) \
		$(BIN)/python -m pytest -s -m long --timeout=1800 tests/chaos

bench: .venv/.installed-dev
	@$(BIN)/python -m bench $(BENCH_ARGS)

docs: .venv/.installed-dev
	@$(BIN)/python tools/check_docs.py

clean:
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
