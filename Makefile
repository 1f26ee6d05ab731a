# Everything a developer types. `make` alone lists it.

PYTHON ?=
ARGS ?=
PG ?= 18
WORKERS ?= 4
BIN := .venv/bin
DEBIAN_15 := /usr/lib/postgresql/15/bin
OLD_PYTHON := the relay needs Python 3.11 or newer and found none; install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3

# They wait more than they work. Each has a PostgreSQL of its own; WORKERS=0 is one process, for -s and --pdb.
PYTEST := $(BIN)/pytest -n $(WORKERS) --durations 20

export PG

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run dev test check lint types audit test-18 test-15 model mutants chaos patroni soak bench week screenshots format wheel lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/made ## make the environment in .venv (PYTHON=... names the interpreter)

# The stamp comes last, so a setup that was interrupted is done again.
.venv/made: requirements.lock pyproject.toml
	@! $(BIN)/python -m pip --version >/dev/null 2>&1 || exit 0; \
	python=; for each in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$each; break; fi; \
	done; \
	test -n "$$python" || { echo "$(OLD_PYTHON)" >&2; exit 1; }; \
	"$$python" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# exec: the relay takes make's shell's place, so Ctrl-C and SIGTERM reach it and make sees its exit status.
run: setup ## start the relay with its own PostgreSQL
	@exec $(BIN)/relay serve --embedded $(ARGS)

dev: setup ## the same, reloading when the code changes
	@exec $(BIN)/relay serve --embedded --reload $(ARGS)

test: setup ## run all tests on PostgreSQL 18 (PG=15: on Debian's 15; ARGS=... goes to pytest; WORKERS=4)
	$(PYTEST) $(ARGS)

check: lint types audit test-18 test-15 screenshots model mutants chaos ## everything that must pass: lint, types, audit, tests on 18 and 15, pictures, model, mutants, chaos

# Faults are real and this machine may be shared: a test that failed beside the others gets one more run, alone.
# It is named UNSTEADY and wants a look; what fails twice has failed.
test-18 test-15: test-%: setup
	@if test $* = 15 && ! test -x $(DEBIAN_15)/postgres; then \
	  echo "SKIPPED: the tests on PostgreSQL 15, for it is not installed (apt-get install postgresql-15)"; \
	  test "$$CI" != true; \
	else \
	  export PG=$*; set -x; $(PYTEST) $(ARGS) && exit; status=$$?; set +x; \
	  test $$status = 1 || exit $$status; \
	  echo "UNSTEADY: what failed on PostgreSQL $* is run again, alone"; \
	  set -x; exec $(BIN)/pytest --last-failed --last-failed-no-failures none --maxfail 1 -v $(ARGS); \
	fi

model: export MODEL_MUTATIONS ?= 5000
model: setup ## random histories against a second opinion in Python (MODEL_SEED=... repeats a failure)
	$(BIN)/pytest -s tests/model $(ARGS)

mutants: setup ## put twelve faults in, one at a time: the tests must see each (ARGS='01 07': only these)
	$(BIN)/python -m tests.mutants $(ARGS)

chaos: setup ## break PostgreSQL, relays, nginx and the network under load (DEEP=1: 90 minutes of it; ARGS='--seed 7')
	@if ! command -v nginx >/dev/null; then \
	  echo "SKIPPED: chaos, for nginx is not installed (apt-get install nginx)"; test "$$CI" != true; \
	else \
	  exec $(BIN)/python -m tests.chaos.run $(if $(DEEP),--deep) $(ARGS); \
	fi

patroni: setup ## kill the leader of a Patroni cluster ten times under load (ARGS='--kills 3')
	$(BIN)/python -m tests.patroni.run $(ARGS)

# Each part of the soak takes how much it does from the environment; two of them are as long as SOAK_MINUTES says.
soak: export SOAK_MINUTES ?= 120
soak: export FUZZ_FRAMES ?= 1000000
soak: export MODEL_MUTATIONS ?= unlimited
soak: export MODEL_MINUTES ?= $(SOAK_MINUTES)
soak: setup ## the long tests: two hours in which nothing may grow, a million frames, two hours of the model (SOAK_MINUTES=120)
	$(BIN)/python -m tests.chaos.soak
	$(BIN)/pytest -s tests/fuzz/test_generated_conversations.py $(ARGS)
	$(BIN)/pytest -s tests/model $(ARGS)

bench: setup ## measure the relay beside what else there is, five minutes (PEERS=1: npm's too; ARGS='paced burst --quick')
	@exec $(BIN)/python -m tests.bench $(if $(PEERS),--peers) $(ARGS)

week: setup ## prune a week of a busy restaurant while changes go on, and say how late they come (WEEK_CHANGES=1000000)
	$(BIN)/python -m tests.week

screenshots: export SCREENSHOTS ?= build/screenshots
screenshots: setup ## pictures of the pages at three sizes and in both themes, in build/screenshots
	@mkdir -p "$(SCREENSHOTS)"
	$(BIN)/pytest -q tests/pages -k pictures -m 'pictures or not pictures' $(ARGS)
	@echo "they are in $(SCREENSHOTS)"

lint: setup ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## mypy --strict
	$(BIN)/mypy

audit: setup ## ask whether a locked package has a known vulnerability (skipped where nobody can be asked)
	$(BIN)/python -m tests.audit

format: setup ## let ruff put right what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: setup ## build the package in dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

lock: setup ## renew requirements.lock (newest versions, with hashes)
	$(BIN)/python -m venv --clear .venv/lock
	.venv/lock/bin/pip install --quiet --disable-pip-version-check uv
	.venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make lock' --extra dev pyproject.toml --output-file requirements.lock

clean: ## remove what was made; the data in .data stays
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
