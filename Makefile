# Every target does its own set-up, on a machine with no more than git, make and python3-venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

AT_LEAST = import sys; sys.exit(sys.version_info < (3, 11))
# A version manager's python3.12 may stand in the path and not work: only one that answers counts.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.11 python3.12 python3.13; do $$p -c '$(AT_LEAST)' 2>/dev/null && { echo $$p; exit; }; done)
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Further Pythons on this machine, in the path or kept by pyenv, that the quick tests run on too.
python_of = $(firstword $(foreach p,python$(1) $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(1).*/bin/python$(1)),$(shell $(p) -c '' 2>/dev/null && echo $(p))))
MAIN := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
OTHERS := $(foreach v,$(filter-out $(MAIN),3.12 3.13),$(if $(call python_of,$(v)),$(v)))
SEEDS ?= 2000
REPEAT ?= 5
JOBS ?= 1
BENCH := bench
MINUTES ?= 30
SEED ?= 1
QUICK := tests/unit tests/interaction
ALONE := -q --last-failed --last-failed-no-failures none
QUIET_PIP := -qq --disable-pip-version-check --no-input

.PHONY: help demo wheel test test-long sim lint format coverage bench soak clean system environments
.PRECIOUS: .venv-%/.installed

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 24

demo: $(STAMP) system ## the product at work: every kind of failure in network namespaces, under two minutes
	@$(BIN)/python -m vipd demo $(ARGS)

test: $(STAMP) system ## lint, types and all tests but the long ones; ten minutes at most
	@$(MAKE) --no-print-directory -j3 lint environments
# Real hosts and stores in real time: what failed beside others is judged alone, once. A machine that others use too may be late.
	$(BIN)/pytest -q -n 3 --dist worksteal -m "not root and not long" || $(BIN)/pytest $(ALONE) -m "not root and not long"
	declare -A run; for v in $(OTHERS); do .venv-$$v/bin/pytest -q -o cache_dir=.venv-$$v/cache -m "not root and not long" $(QUICK) & run[$$v]=$$!; done; \
	failed=; for v in $(OTHERS); do wait $${run[$$v]} || failed+=" $$v"; done; \
	for v in $$failed; do .venv-$$v/bin/pytest $(ALONE) -o cache_dir=.venv-$$v/cache -m "not root and not long" $(QUICK); done
	$(BIN)/pytest -q -n 3 --dist loadfile -m "root and not long" || $(BIN)/pytest $(ALONE) -m "root and not long"

test-long: $(STAMP) system ## the tests that run for minutes
	$(BIN)/pytest -m long

sim: $(STAMP) ## the simulation with many seeds: make sim SEEDS=100000
	$(BIN)/python -m tests.sim.run --seeds $(SEEDS) --jobs $$(nproc)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP) ## put the code into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(STAMP) ## the wheel, into dist/
	$(BIN)/pip wheel $(QUIET_PIP) --no-deps --no-build-isolation -w dist .

coverage: $(STAMP) system ## branch coverage of all tests but the long ones
	$(BIN)/pytest -q -m "not long" --cov --cov-report=term

bench: $(STAMP) system ## vipd beside keepalived and ucarp, and what it costs, into bench/ (root; a quiet machine; JOBS=2: an hour and a half)
	@.ci/system-packages keepalived ucarp
	$(BIN)/pip install $(QUIET_PIP) -c constraints.txt -e .[dev,bench] --no-build-isolation
	@mkdir -p $(BENCH)
# A part that is void, or a size that this machine does not reach, is said at the end; the others are measured all the same.
	@trap 'exit 130' INT; failed=; \
	part() { $(BIN)/python -m tests.bench.$$1 --json $(BENCH)/$$1.json "$${@:2}" | tee $(BENCH)/$$1.md || failed+=" $$1"; }; \
	part failover --repeat $(REPEAT) --jobs $(JOBS) --plots $(BENCH); \
	part figures --repeat $(REPEAT); part takeover; part scale; part fence; part imports; part gate_cost; \
	test -z "$$failed" || { echo "void, failed or not reached:$$failed" >&2; exit 1; }

soak: $(STAMP) system ## half an hour of random faults on real etcd: make soak MINUTES=30 SEED=1 (root)
	$(BIN)/python -m tests.bench.soak --minutes $(MINUTES) --seed $(SEED)

clean: ## remove what the other targets made
	rm -rf .venv .venv-3.* build dist $(BENCH) *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

system:
	@.ci/system-packages

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "vipd needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "python3 cannot make an environment: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install $(QUIET_PIP) -c constraints.txt setuptools
	$(BIN)/pip install $(QUIET_PIP) -c constraints.txt --no-build-isolation -e .[dev]
	@touch $@

environments: $(STAMP) $(OTHERS:%=.venv-%/.installed)

.venv-%/.installed: pyproject.toml constraints.txt
	@$(call python_of,$*) -m venv --clear .venv-$*
	.venv-$*/bin/pip install $(QUIET_PIP) --no-compile -c constraints.txt setuptools
	.venv-$*/bin/pip install $(QUIET_PIP) --no-compile -c constraints.txt --no-build-isolation -e .[dev]
	@touch $@
