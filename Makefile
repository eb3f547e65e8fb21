# Every verb does its own set-up: .venv with pinned dependencies, made once (tools/setup). `make` alone lists the verbs.
PYTHON ?=
export PYTHON
BIN := .venv/bin
SETUP := @sh tools/setup

.PHONY: help demo test check fix bench docs clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo   a small language model reads the 49 phone calls of examples/calls.csv'
	@echo 'make test   the static checks, then all tests'
	@echo 'make check  the static checks alone: ruff, mypy, pyright, import-linter'
	@echo 'make fix    formats, and mends what ruff can mend'
	@echo 'make bench  the benchmarks, in full'
	@echo 'make docs   builds the site into out/site, and checks that what it says is so'
	@echo 'make clean  removes what the verbs made: .venv, out, caches'

demo:
	$(SETUP)
	@mkdir -p out
	$(BIN)/headrace calls examples/calls.csv --key id --model local --temperature 0.2 --param frequency_penalty=0.8 \
	  -o out/calls.parquet --report out/calls.html \
	  || [ $$? -eq 1 ] # 1: some rows failed, as one that is too long for this model does

check:
	$(SETUP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p headrace
	cd tests && ../$(BIN)/mypy --config-file ../pyproject.toml --explicit-package-bases . ../benchmarks ../examples
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python >.venv/pyright.txt || { cat .venv/pyright.txt; exit 1; }
	@$(BIN)/lint-imports --no-cache >.venv/floors.txt || { cat .venv/floors.txt; exit 1; }

test: check
	@status=0; \
	$(BIN)/python -m pytest -q -n 2 -m 'not serial' || status=$$?; \
	$(BIN)/python -m pytest -q -m serial || status=$$?; \
	exit $$status

fix:
	$(SETUP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench:
	$(SETUP)
	@sh benchmarks/peers/setup
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done
	HEADRACE_SCALE=1 $(BIN)/python -m pytest -q -n 2 tests/sim tests/unit
	$(BIN)/python -m pytest -q tests/acceptance/test_kill.py --kills 200
	HEADRACE_SCALE=1 $(BIN)/python -m pytest -q tests/acceptance/test_pipeline_kill.py tests/acceptance/test_budget_kept.py
	$(BIN)/python -m pytest -q tests/acceptance/test_memory.py --rows 1000000
	$(BIN)/python -m pytest -q tests/acceptance/test_memory_of_tables.py --table-mb 5000

docs:
	$(SETUP)
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d out/.site . out/site
	$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_site.py tests/unit/test_house.py \
	  tests/acceptance/test_readme.py tests/acceptance/test_guides.py

clean:
	rm -rf .venv .bench out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .headrace
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
