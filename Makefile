# make demo: from a machine with Python 3.11 or newer alone to results/demo/report.html
# make test: the tests;  make lint: style;  make clean-demo: forget the demo study

PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake
CORES ?= all

.PHONY: demo test lint clean-demo environment

demo: environment
	$(SNAKEMAKE) --cores $(CORES) --rerun-incomplete
	@echo "The report is $(CURDIR)/results/demo/report.html"

test: environment
	$(BIN)/python -m pytest

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(SNAKEMAKE) --lint

clean-demo:
	rm -rf results/demo logs/demo

environment: .venv/.installed

# A lock file names exact versions; the package itself is used from src, so that edits count.
.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	touch $@
