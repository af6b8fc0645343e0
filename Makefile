# The two commands: make book, make test. `make help` lists the rest.
PYTHON  ?= python3.11
PROFILE ?= cpu
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
NB      ?=
STRICT  ?=
# which PyTorch: auto (the CPU build where there is no GPU), cpu, or a CUDA version such as cu130
TORCH   ?= auto
VENV    ?= .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
TORCH_VERSION := 2.13.0

export PYTHONHASHSEED = 0
export UV_SYSTEM_CERTS = 1
export UV_PYTHON_DOWNLOADS = never
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export LIMITLIB_DATA LIMITLIB_BUILD

.DEFAULT_GOAL := help
.PHONY: help book test setup run html serve lint bench data ledger lock clean distclean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'
	@echo
	@echo "  variables: PROFILE=smoke|cpu|gpu  NB='03 04' (some notebooks)  JOBS=2 (side by side)  STRICT=1 (missing data is an error)"
	@echo "             TORCH=auto|cpu|cu130 (which PyTorch)  PYTHON=python3.11  LIMITLIB_DATA=FOLDER (a mirror of the data sets)"

book: run html  ## set up, run every stale notebook, build the pages, print where they are

test: setup  ## set up, run the tests (every notebook at smoke size, the claims, the built pages)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed here: make PYTHON=/path/to/python3.11")' \
	  || { echo "no usable $(PYTHON): install Python 3.11, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "  setting up $(VENV) (once; a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q uv==0.13.9
	@$(BIN)/python -c 'import torch, sys; sys.exit(torch.__version__.split("+")[0] != "$(TORCH_VERSION)")' 2>/dev/null \
	  || { test -n "$(PIP_FIND_LINKS)" && $(BIN)/python -m pip install -q torch==$(TORCH_VERSION); } \
	  || $(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=$(TORCH) torch==$(TORCH_VERSION) \
	  || $(BIN)/python -m pip install -q torch==$(TORCH_VERSION)
	@$(BIN)/uv pip install -q --python $(BIN)/python -r requirements.lock || $(BIN)/python -m pip install -q -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

run: setup  ## run the stale notebooks and say why
	@$(BIN)/python -m limitlib run $(NB) --profile $(PROFILE) --jobs $(JOBS) $(if $(filter 1,$(STRICT)),--strict)

html: setup  ## typeset the pages from what the runs left (warnings are errors)
	@$(BIN)/python -m limitlib html --profile $(PROFILE)

serve: html  ## read the book at http://localhost:8000
	@$(BIN)/python -m http.server -d _build/html --bind 127.0.0.1 8000

ledger: setup  ## every number beside what it must be
	@$(BIN)/python -m limitlib ledger

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy limitlib

bench: setup  ## side-by-side timings; each prints a ratio
	@$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock -e '.[bench]'
	@for file in $(filter-out benchmarks/table.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

data: setup  ## fetch every registered public data set into the cache
	@$(BIN)/python -m limitlib data fetch

lock: setup  ## resolve requirements.lock anew (torch stays out: its build is chosen per machine)
	UV_FIND_LINKS="$(or $(UV_FIND_LINKS),$(PIP_FIND_LINKS))" $(BIN)/uv pip compile pyproject.toml --extra book --extra audit --extra real --extra cluster --extra dev --extra torch \
	  -p 3.11 --no-emit-package torch --no-header --annotation-style line -q -o requirements.lock
	! grep -nE '^(nvidia|cuda|triton)' requirements.lock

clean:  ## remove everything that runs and builds made
	rm -rf _build build

distclean: clean  ## and the environment
	rm -rf $(VENV)
