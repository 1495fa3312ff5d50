# Everything works through .venv/bin, never through an activated environment.
# `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
INPUTS := pyproject.toml constraints.txt
EXTRAS := dev,docs,postgres,nasbench,onnx,botorch,bench

PYTEST_ARGS ?=
BENCH ?= $(wildcard benchmarks/[!_]*.py)
BENCH_ARGS ?=

# Material announces its end of life in every build.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test chaos lint docs bench clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

demo: $(RUNTIME)  ## install what running needs, and run examples/quickstart.yaml
	$(BIN)/orchestrate submit examples/quickstart.yaml

install: $(DEV)  ## install everything: all extras and the development tools

test: $(DEV)  ## all tests that this machine can run (PYTEST_ARGS="-m unit -n 2" and the like)
	$(BIN)/pytest $(PYTEST_ARGS)

chaos: $(DEV)  ## a job killed at every crash point and at random: hours (CHAOS_SEED=N repeats one)
	CHAOS=full $(BIN)/pytest tests/reliability $(PYTEST_ARGS)

lint: $(DEV)  ## ruff, pyright, import-linter, and the documentation's links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/mkdocs build --strict --quiet

docs: $(DEV)  ## the documentation, into site/
	$(BIN)/mkdocs build --strict

# A script that can't run on this machine says why, and ends with 77.
bench: $(DEV)  ## the benchmarks one after another (BENCH=benchmarks/x.py, BENCH_ARGS=--full)
	@for script in $(BENCH); do \
	    echo "== $$script"; $(BIN)/python "$$script" $(BENCH_ARGS) || [ $$? -eq 77 ] || exit 1; \
	done

clean:  ## what tools left behind; .venv and .orchestrate (your results) stay
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so that pip is asked nothing when nothing
# changed. (An environment that uv made has no pip.)
define install
	@echo 'Installing into $(VENV): minutes the first time, seconds after a change.'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.$(1)'
endef

$(RUNTIME): $(INPUTS) | $(BIN)/python
	$(call install,)
	@touch $@

$(DEV): $(INPUTS) | $(BIN)/python
	$(call install,[$(EXTRAS)])
	@touch $(RUNTIME) $@

# --clear: whatever stands there without a working python is no environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
