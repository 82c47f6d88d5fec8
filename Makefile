# make demo, make test: on a fresh machine they need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types clean

demo: $(STAMP)
	$(RUN) -m livestack demo

test: $(STAMP)
	$(RUN) -m pytest

check: lint types test

lint: $(STAMP)
	$(RUN) -m ruff check livestack tests benchmarks

types: $(STAMP)
	$(RUN) -m mypy

$(STAMP): pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[test,xisf,catalogue]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
