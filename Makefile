# torchskew: `make help` lists the targets. Everything runs in .venv, which make creates and keeps up to date.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
OPTIONS ?=
RUN ?= latest
# The locked releases where the index has them, else what pyproject.toml allows.
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
LOCKED := --constraint $(VENV)/constraints.txt
BASE := $(VENV)/.torchskew
TESTS := $(VENV)/.torchskew-test

.PHONY: help matrix gate rehearse rehearsal survey site compatibility probe guard guard-file doctor lock-images report clean
.PHONY: test lint bench bridge chaos lock

help: ## show this list
	@echo "torchskew: process groups whose ranks run different PyTorch releases"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "Pass options of a command in OPTIONS: make matrix OPTIONS=\"--only 'all_reduce/*' --no-cache\""

matrix: $(BASE) ## run the declared matrix (torchskew.toml) and judge every rank
	@$(BIN)/torchskew matrix $(OPTIONS)

gate: $(BASE) ## decide whether a candidate works with the releases people run
	@$(BIN)/torchskew gate $(OPTIONS)

rehearse: $(BASE) ## upgrade a small training cluster node by node, and roll back
	@$(BIN)/torchskew rehearse $(OPTIONS)

rehearsal: rehearse ## the same as rehearse

survey: $(BASE) ## run every scenario between the releases of docs/compatibility.toml; write facts, page and site
	@$(BIN)/torchskew survey --measure --save docs/survey.json --write docs/compatibility.md --html site $(OPTIONS)

site: $(BASE) ## build the site about releases out of docs/survey.json, without running anything
	@$(BIN)/torchskew survey --html site $(OPTIONS)

compatibility: survey ## the same as survey

bridge: $(BASE) ## stock store against bridge between the releases of docs/bridge.toml, with the tables of docs/bridge.md
	-@$(BIN)/torchskew matrix -f docs/bridge.toml --runtime venv $(OPTIONS)
	@$(BIN)/python -m tests.bridge.table out --write docs/bridge.md

probe: $(BASE) ## say what listens on a port (OPTIONS="HOST:PORT")
	@$(BIN)/torchskew probe $(OPTIONS)

guard-file: $(BASE) # the one file out of harness/torchskew/guard, after a change there
	@$(BIN)/python -m torchskew.guard.generate

guard: $(BASE) ## print the one file that makes a mixed job fail clearly
	@$(BIN)/torchskew guard --print $(OPTIONS)

doctor: $(BASE) ## say what this machine has for torchskew, and how to fix what it lacks
	@$(BIN)/torchskew doctor $(OPTIONS)

lock-images: $(BASE) ## write images/lock.toml from the images built here
	@$(BIN)/torchskew images --lock $(OPTIONS)

report: $(BASE) ## show a recorded run again (RUN=id; the latest by default)
	@$(BIN)/torchskew report $(RUN) $(OPTIONS)

clean: $(BASE) ## remove what killed runs left behind (OPTIONS=--store: environments too)
	@$(BIN)/torchskew clean $(OPTIONS)

# A file's tests stay in one worker, which makes what they share once.
test: $(TESTS) ## run lint, types, every test and coverage, as CI does
	@status=0; $(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --cov --cov-report=term $(OPTIONS) || status=$$?; exit $$status

lint: $(TESTS) ## run ruff and mypy
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

bench: $(BASE) ## run the benchmarks (ratios within one run)
	@$(BIN)/python -m benchmarks $(OPTIONS)

chaos: $(TESTS) ## disturb the harness itself for at most 15 minutes (OPTIONS="--seed N" repeats a run)
	@$(BIN)/python -m tests.chaos $(OPTIONS)

# The newest Python from 3.11 on that answers; `make PYTHON=/path/to/python` decides otherwise.
$(BASE): pyproject.toml requirements.lock
	@python="$(PYTHON)"; \
	for each in $$python python3 python3.13 python3.12 python3.11 python3.14; do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$each"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "make: no Python 3.11 or later. Install one, or run make PYTHON=/path/to/python." >&2; exit 4; fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv $(VENV) || { echo "make: that Python has no venv module. On Debian: apt install python3-venv." >&2; exit 4; }; \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' requirements.lock > $(VENV)/constraints.txt
	@$(PIP) $(LOCKED) --editable . 2>$(VENV)/pip.log || $(PIP) --editable .
	@touch $@

$(TESTS): $(BASE)
	@$(PIP) $(LOCKED) --editable '.[test]' 2>$(VENV)/pip.log || $(PIP) --editable '.[test]'
	@touch $@

lock: $(TESTS) # what requirements.lock was made with; after a change in pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --extra test --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 --upgrade --output-file requirements.lock pyproject.toml
