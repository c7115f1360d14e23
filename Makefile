# make demo        the whole life of a model on real data, in minutes (folder demo/)
# make demo-short  the same steps in under a minute, with poor figures (folder runs/demo-short/)
# make quick       the tests of the parts that most changes touch, in under a minute
# make test        the tests
# make lint        ruff: style and format; mypy: types
# make oldest      a part of the tests with the oldest dependencies that pyproject.toml allows (in .venv-oldest)
#
# Each makes .venv on first use. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help demo demo-short quick test lint oldest
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

# Tables in, training, answers, evidence, the command line, files of weights, models of an older version, and of the
# light extras. What needs another extra to make its inputs is left out.
OLDEST_EXTRAS := chem,detect,excel,keras,serve,tune,video
LIFE := tests/verbs/test_life.py::test
oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -qq --disable-warnings -n auto --maxprocesses 2 --dist loadfile \
		tests/core tests/storage tests/data tests/inference/test_golden.py tests/test_cli.py tests/test_sklearn.py \
		tests/columns/test_molecule.py tests/columns/test_video.py tests/metrics/test_average_precision.py \
		tests/serving/test_door.py tests/serving/test_served_rows.py \
		tests/verbs/test_tune.py::test_two_commands_share_one_search \
		$(LIFE)_training_learns_the_task_and_leaves_everything_behind \
		$(LIFE)_answers_come_as_tables_with_or_without_the_truth $(LIFE)_evaluating_on_other_rows_replaces_the_evidence \
		--ignore tests/data/test_hostile_files.py \
		--deselect tests/test_cli.py::test_doctor_names_every_extra_and_how_to_install_it

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

# All at their lower bounds but torch, which stays as it is in .venv: its oldest draws gigabytes from some indexes.
# openpyxl writes the workbooks that tests read.
.venv-oldest/.installed: pyproject.toml .ci/oldest.py | .venv/.installed-dev
	@echo "Installing the oldest dependencies in .venv-oldest (some minutes) ..."
	@rm -rf .venv-oldest
	$(BIN)/python -m venv .venv-oldest
	$(BIN)/python .ci/oldest.py $(OLDEST_EXTRAS) > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check --no-compile \
		--constraint .venv-oldest/constraints.txt \
		--editable '.[$(OLDEST_EXTRAS)]' pytest pytest-xdist openpyxl
	@touch $@
