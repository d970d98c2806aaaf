# Everything below needs only make, Python >= 3.11 and pip: the first target
# that needs an installation makes one in $(VENV), and it is renewed only when
# setup.py or pyproject.toml changes.

VENV ?= .venv
WORKERS ?= 2
ARGS ?=

# The first interpreter that runs and is new enough. Each is tried out rather
# than looked up: a version manager's shim is found on the path and yet fails.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
  $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
    >/dev/null 2>&1 && { echo $$python; break; }; done)

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := $(wildcard sam_optax train configs tests benchmarks examples \
  docs/generate) setup.py

.DEFAULT_GOAL := help
.PHONY: help install test lint format demo bench docs clean

help:
	@echo 'make test     check style and types, then run every test'
	@echo "              (ARGS='-k gsam' narrows it, WORKERS=N spreads it)"
	@echo 'make lint     check style and types only'
	@echo 'make format   put the sources into the style that lint expects'
	@echo 'make demo     train on a small data set and say what was seen: with'
	@echo '              wrong labels by default (TASK=noise), or with right ones'
	@echo '              (TASK=classification), or quantised (TASK=quantisation),'
	@echo '              or masks and people (TASK=segmentation, TASK=pose);'
	@echo '              METHODS=all for every method, or names with commas'
	@echo 'make bench    measure what every method costs over SGD, in turns'
	@echo "              (ARGS='--networks=resnet --rows=sam,arsam' narrows it)"
	@echo 'make docs     build the documentation into site/ (warnings are errors)'
	@echo 'make install  set up $(VENV) only (the others do it when needed)'
	@echo 'make clean    remove $(VENV) and every cache'

install: $(INSTALLED)

# The stamp is written last. Without it the environment is rebuilt from
# nothing, because an installation cut short can look complete to pip.
$(INSTALLED): setup.py pyproject.toml
	@test -n '$(PYTHON)' || { echo 'No Python >= 3.11 on the path. Install' \
	  'one, or name it: make PYTHON=/path/to/python'; exit 1; } >&2
	@echo 'Setting up $(VENV): a minute or two, once.'
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	  --no-input -e '.[test]'
	@touch $@

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES)
	@$(BIN)/basedpyright --level error --pythonpath $(BIN)/python

format: $(INSTALLED)
	@$(BIN)/ruff check --quiet --fix $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)

# NPROC is the size of XLA's thread pool. Left alone, every worker starts as many
# threads as there are cores, and they take turns with the other worker's.
test: lint
	@NPROC=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(ARGS)

demo: $(INSTALLED)
	@$(BIN)/python -m train.tools.demo $(if $(TASK),--task=$(TASK)) \
	  $(if $(METHODS),--methods=$(METHODS)) $(ARGS)

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks $(ARGS)

# The variable silences an announcement of the theme's authors.
docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo 'Open site/index.html.'

clean:
	rm -rf $(VENV) build site dist *.egg-info .pytest_cache .ruff_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
