# chatd. `make run` shows it; `make check` is everything that CI runs, the same command.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# One target after the other: check ends with the summary of the tests, and two installs never meet.
.NOTPARALLEL:

BIN := .venv/bin
# The folders of Python that exist; a checkout in the making may lack one.
PYTHON_CODE = $(wildcard server clients/python scripts tests bench examples)
# Two workers: most of the suite waits for databases and processes. Override with PYTEST_ARGS=...
PYTEST_ARGS ?= -n 2

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv with everything that development needs
	@scripts/setup dev

.PHONY: setup-run
setup-run:
	@scripts/setup run

.PHONY: run
run: setup-run ## set everything up, start a server, and hold one real conversation with it
	@$(BIN)/python -m chatd_server.demo

.PHONY: check
check: lint type test ## everything that CI runs

.PHONY: lint
lint: setup ## look for mistakes in code, imports, protos and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf breaking proto --against proto/released.binpb
	$(BIN)/typos

.PHONY: type
type: setup ## check the types (mypy strict)
	$(BIN)/mypy $(PYTHON_CODE)

.PHONY: test
test: setup ## run the whole suite: Python with PostgreSQL, TypeScript and Go where they are present
	@scripts/test-clients
	$(BIN)/pytest $(PYTEST_ARGS)

# An outside client against real servers; see tests/blackbox. A violation ends with code 1.
SECONDS ?= 60
SEED ?= 0
TRIES ?= 2000

.PHONY: storm
storm: setup ## random chats, cuts and kills, then hostile requests: SECONDS=60 SEED=0 (0: a new one)
	@$(BIN)/python -m tests.blackbox storm --seconds $(SECONDS) --seed $(SEED)

.PHONY: races
races: setup ## streams that begin in the middle of something: TRIES=2000
	@$(BIN)/python -m tests.blackbox races --tries $(TRIES)

.PHONY: fmt
fmt: setup ## format code and protos
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format
	$(BIN)/buf format --write proto

.PHONY: gen
gen: setup ## generate the code under gen/ from the protos
	scripts/gen

.PHONY: docs
docs: setup ## regenerate the pages of docs/ that come from code
	@for page in scripts/*.py; do echo $$page; $(BIN)/python $$page || exit 1; done

.PHONY: bench
bench: setup ## measure product, floor and naive stack side by side
	$(BIN)/python -m bench

.PHONY: lock
lock: setup ## pin requirements/*.in again (scripts/lock --upgrade takes newer versions)
	scripts/lock

.PHONY: release-proto
release-proto: setup ## renew what `buf breaking` compares with; only with a release
	$(BIN)/buf build proto --exclude-source-info --output proto/released.binpb

.PHONY: clean
clean: ## remove everything that these targets made
	rm -rf .venv .venv-gen .tools node_modules bench/results build dist .coverage
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(PYTHON_CODE) gen -name __pycache__ -type d -prune -exec rm -rf {} +
