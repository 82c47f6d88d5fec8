# make demo, make test: on a fresh machine they need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
JOBS = $(shell $(RUN) -c "import os; print(min(4, 1 + (os.cpu_count() or 1)))")

.PHONY: demo test check lint types docs clean

demo: $(STAMP)
	$(RUN) -m livestack demo

# a test more at a time than there are cores, up to four, since many wait; tests of one file stay together, since they share what was costly to make, in the order of
# tests/conftest.py;
# one thread of linear algebra for each, which else fight for the cores; and where the environment forbids to keep
# compiled modules, each of the hundred programs that tests start would compile ours for a second
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

check: lint types test

lint: $(STAMP)
	$(RUN) -m ruff check livestack tests benchmarks docs

types: $(STAMP)
	$(RUN) -m mypy

$(STAMP): pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[test,xisf,catalogue]"
	touch $(STAMP)

# the documentation site, into build/site; a broken link or a page that is not in the menu ends it
docs: $(STAMP)
	$(RUN) -m pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
