# winnow: every target sets up what it needs. Only Python >= 3.11 and make are assumed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup demo test test-all lint bench bench-small icons-small icons-medium clean

help:        ## what each target does
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

setup: $(READY)  ## make .venv with everything that the demo and the tests need

# uv installs inside the environment that Python made: nothing on the machine is touched.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "winnow needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --system-certs --python $(BIN)/python --constraint constraints.txt --editable '.[demo,dev,bench]'
	touch $(READY)

demo: $(READY)  ## curate, train two models, evaluate and report on real pictures, in minutes
	$(BIN)/winnow demo

test: $(READY)  ## everything that needs no GPU and no patience
	$(BIN)/python -m pytest -n 2

test-all: $(READY)  ## the slow tests too
	$(BIN)/python -m pytest -n 2 -m 'slow or not slow'

lint: $(READY)  ## style, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## every benchmark, each against a peer in the same run; hours
	for name in loader step losses captions spotting curation concepts retrieval evaluation_suite linear_probe explore audit audit_cost; do $(BIN)/python benchmarks/$$name.py || exit 1; done

icons-small: $(READY)  ## data of the icons benchmark, 24,000 pairs; fetches with npm and apt-get
	$(BIN)/python benchmarks/icons/build.py --size small --out benchmarks/.cache/icons/small

icons-medium: $(READY)  ## the same with 119,571 pairs, packed into one file too
	$(BIN)/python benchmarks/icons/build.py --size medium --out benchmarks/.cache/icons/medium --pack benchmarks/.cache/icons/medium.tar.xz

bench-small: $(READY) icons-small  ## the small study of both papers on real icons
	$(BIN)/python benchmarks/icons/study.py --size small --data benchmarks/.cache/icons/small --out benchmarks/.cache/study-small

clean:       ## remove the environment and what the tools leave behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
