# SPDX-License-Identifier: GPL-3.0-or-later
# make demo   set up .venv and run the main job on the examples
# make test   set up what the tests need and run all of them
# make soak   what takes hours; writes its results into docs/reliability.md
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
FLIGHT ?= examples/flights/bali-survey.plan

.PHONY: demo test test-setup lint bench soak controls fuzz coverage docs clean help

help:
	@echo "make demo | test | lint | bench | soak | controls | fuzz | coverage | docs | clean"

$(VENV)/runtime.stamp: requirements/runtime.lock requirements/build.lock pyproject.toml builder/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with venv is missing; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) ($$($(PYTHON) --version))"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/runtime.lock -r requirements/build.lock
	@$(PIP) --no-deps --no-build-isolation -e . -e builder
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements/dev.lock
	@echo "adding what the tests need"
	@$(PIP) --require-hashes -r requirements/dev.lock
	@touch $@

demo: $(VENV)/runtime.stamp
	@$(BIN)/operator-tool build-cache --flight-file $(FLIGHT)

# The tests start real companions in containers: that takes system packages, and root.
test-setup: $(VENV)/dev.stamp
	@tools/system_packages.sh tests/apt-packages.txt

# Three workers on two cores: many tests wait for a companion.
WORKERS ?= 3
test: test-setup
	$(BIN)/python -m tools.gates
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --durations=10

lint: $(VENV)/dev.stamp
	$(BIN)/python -m tools.gates

bench: test-setup
	@tools/system_packages.sh tests/bench/apt-packages.txt
	$(BIN)/python -m tests.bench

soak: test-setup
	$(BIN)/python -m pytest -m soak --timeout=0 --durations=20 -p tests.soak_results --soak-results docs/reliability.md

# Coverage-guided fuzzing of every reader of bytes from outside; what it learns stays in .cache/fuzz.
FUZZ_SECONDS ?= 300
fuzz: $(VENV)/dev.stamp
	@$(PIP) --require-hashes -r requirements/fuzz.lock
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

# Coverage of the whole suite, with the processes that it starts; the tables go into docs/reliability.md.
coverage: test-setup
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal
	$(BIN)/python -m coverage combine
	$(BIN)/python -m tests.coverage_table --page docs/reliability.md

# Plants defects in a copy of the product, and shows that the tests convict each of them.
controls: test-setup
	$(BIN)/python tests/faults/controls.py

docs: $(VENV)/dev.stamp
	$(BIN)/python -m tools.reference

clean:
	rm -rf $(VENV) build dist var .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
