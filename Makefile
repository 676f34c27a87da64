# make demo: from a machine with Python 3.11 or newer alone to results/demo/report.html
# make seeds: the demo study with seeds 0, 1 and 2, tabulated in results/demo-seeds.md;
#   make seeds PRESET=brain-ldm-demo: the same of a preset
# make test: the tests;  make lint: style;  make clean-demo: forget the demo study

PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake
CORES ?= all
SEEDS ?= 0 1 2
PRESET ?=
NAME := $(or $(PRESET),demo)

.PHONY: demo seeds test lint clean-demo environment

demo: environment
	$(SNAKEMAKE) --cores $(CORES) --rerun-incomplete
	@echo "The report is $(CURDIR)/results/demo/report.html"

seeds: environment
	set -e; for seed in $(SEEDS); do \
		$(SNAKEMAKE) --cores $(CORES) --rerun-incomplete \
			$(PRESET:%=--configfile presets/%.yaml) --config seed=$$seed study=$(NAME)-seed-$$seed; \
	done
	$(BIN)/realdeal seeds $(SEEDS:%=results/$(NAME)-seed-%) --output results/$(NAME)-seeds.md

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
