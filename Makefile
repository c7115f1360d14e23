# make demo        the whole life of a model on real data, in minutes (folder demo/)
# make demo-short  the same steps in under a minute, with poor figures (folder runs/demo-short/)
# make quick       the tests of the parts that most changes touch, in under a minute
# make test        the tests
# make lint        ruff: style and format; mypy: types
#
# Each makes .venv on first use. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help demo demo-short quick test lint
help:
	@sed '/^$$/q; s/^# \{0,1\}//' Makefile

demo: .venv/.installed
	$(BIN)/onetrunk demo --out demo

demo-short: .venv/.installed
	$(BIN)/onetrunk demo --short --out runs/demo-short

quick: .venv/.installed-dev
	$(BIN)/python -m pytest -q -x tests/core tests/data tests/metrics tests/objectives tests/test_layers.py tests/test_model.py

test: .venv/.installed-dev
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# pip is the last thing that venv makes: where it is missing, an environment was not finished.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 11); sys.exit("Onetrunk needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % sys.version_info[:2] if old else 0)'
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing Onetrunk in .venv (once; some minutes) ..."
	$(PIP) --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/pip
	@echo "Installing Onetrunk and its test tools in .venv (once; some minutes) ..."
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/.installed
