# Two commands: `make run` (install, then the worked example) and `make test` (install, then every check and test).
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
ENV ?= dev
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/.installed

.PHONY: help setup run test quick check lock clean

help:
	@echo "make run     install into .venv and run the worked example (ENV=dev)"
	@echo "make test    install into .venv, then checks and all tests"
	@echo "make quick   checks and the tests that start no kernel"
	@echo "make check   ruff, mypy, import-linter"
	@echo "make lock    write requirements.lock again from pyproject.toml"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml install.sh
	PYTHON=$(PYTHON) sh install.sh $(VENV)
	@touch $@

# Inference clients that others wrote, in an environment of their own: they want other versions than kit does.
$(CLIENTS_STAMP): tests/clients/requirements.lock $(STAMP)
	$(PYTHON) -m venv --clear --without-pip $(CLIENTS)
	$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --link-mode copy --compile-bytecode --require-hashes -r $<
	@touch $@

run: setup
	$(BIN)/kit all --env $(ENV)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: check
	$(BIN)/python -m pytest -m "not kernel" -q -n 2

test: quick $(CLIENTS_STAMP)
	$(BIN)/python -m pytest -m kernel -q

lock: setup
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --extra example --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links tests/clients/requirements.in -o tests/clients/requirements.lock

clean:
	rm -rf $(VENV) $(CLIENTS) .kit .pytest_cache .ruff_cache .mypy_cache
