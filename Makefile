# Each target makes its own environments first; PYTHON=… names the interpreter that new ones are made with,
# ARGS=… is handed to the program that the target runs.

.DEFAULT_GOAL := help
.PHONY: help setup demo bench test test-long lint constraints clean

PYTHON ?=
ARGS ?=

BIN := .venv/bin
PIN = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --quiet --system-certs \
	--custom-compile-command 'make constraints' $(ARGS)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Make the two environments, .venv and .venv-mint; skips what is up to date
	@PYTHON='$(PYTHON)' sh scripts/setup.sh

demo: setup ## Pay for one plain and one streamed LLM call and print the balance sheet; ARGS=--keep leaves it running
	@$(BIN)/otrta demo $(ARGS)

test: lint ## Lint, fetch the npm packages, PostgreSQL and Chromium that tests use, then run every test; property tests take a sample
	@$(BIN)/python scripts/npm_packages.py
	@sh scripts/postgres.sh
	@sh scripts/chromium.sh
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-long: export OTRTA_LONG = 1
test-long: export PYTEST_TIMEOUT = 3600
test-long: test ## The same with long property tests; appends a summary to test-long.jsonl

bench: setup ## Measure what the gate costs LiteLLM, beside the bare proxy and the mint; ARGS="--rounds 5 --json FILE"
	@$(BIN)/python -m bench.gateway $(ARGS)

lint: setup ## ruff, mypy and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

constraints: setup ## Write constraints*.txt anew from pyproject.toml; ARGS=--upgrade takes newer releases
	@$(PIN) --extra gateway --extra client --extra postgres --group dev --output-file constraints.txt
	@$(PIN) --extra mint --output-file constraints-mint.txt

clean: ## Remove both environments and every cache
	rm -rf .venv .venv-mint tests/interop/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
