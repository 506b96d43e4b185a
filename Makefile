# Every target sets up what it needs, in the project's own virtual environment (.venv).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTHON := $(BIN)/python
# rustup's folder: a shell started before rustup was installed does not have it in its path.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# PyO3's build script runs this interpreter, not the first one in the path.
export PYO3_PYTHON := $(CURDIR)/$(PYTHON)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX

# Under CI the lock file must be up to date; elsewhere cargo may update it.
CARGO_FLAGS ?= $(if $(CI),--locked)
# Two test processes at a time; when one has no test left, it takes over tests of the other.
PYTEST_FLAGS ?= -n 2 --dist worksteal
# The flags that select a part of the Python tests. With such a flag, `make test` runs no Rust tests.
PART := $(filter -k% -m% --lf --last-failed tests/%,$(PYTEST_FLAGS))

PYTHON_SOURCES := $(wildcard python tests examples benchmarks scripts)
TYPED_SOURCES := python/cloaca $(wildcard tests/typing)

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: ## Run a real pipeline on real data, kill it in the middle, and see it complete
	@scripts/setup.sh demo release
	@$(PYTHON) examples/weather/run.py

# Multiplies the usual number of random inputs; the tests then take minutes instead of seconds.
FUZZ := CLOACINA_FUZZ=$${CLOACINA_FUZZ:-4}

# The tests that `make simulate` runs in an optimised build.
SIMULATED := --skip every_seed --skip every_mutant --skip every_interleaving

.PHONY: test
test: ## Run all tests; a part with PYTEST_FLAGS="tests/test_x.py -k y"
	@scripts/setup.sh test dev
	$(if $(PART),,$(FUZZ) cargo test --workspace $(CARGO_FLAGS) -- $(SIMULATED))
	$(if $(PART),,$(MAKE) simulate)
	$(FUZZ) $(PYTHON) -m pytest $(PYTEST_FLAGS)

# An optimised build with SQLite only.
SIMULATION := cargo test -p cloacina --no-default-features --features sqlite --profile simulation --test simulation $(CARGO_FLAGS) --

.PHONY: simulate
simulate: ## Simulate several runners under every fault, with 10,000 seeds
	CLOACINA_SEEDS=$${CLOACINA_SEEDS:-10000} CLOACINA_INTERLEAVINGS=$${CLOACINA_INTERLEAVINGS:-10000} $(SIMULATION) --nocapture

.PHONY: soak
soak: ## Simulate a million seeds, and 100,000 interleavings of waits (hours)
	CLOACINA_SEEDS=$${CLOACINA_SEEDS:-1000000} $(SIMULATION) --nocapture every_seed
	CLOACINA_INTERLEAVINGS=$${CLOACINA_INTERLEAVINGS:-100000} $(SIMULATION) --nocapture every_interleaving

.PHONY: fuzz
fuzz: ## Run the tests of random input with a thousand times as many inputs (hours)
	@scripts/setup.sh test dev
	CLOACINA_FUZZ=$${CLOACINA_FUZZ:-1000} cargo test -p cloacina --profile simulation --test fuzz $(CARGO_FLAGS)
	CLOACINA_FUZZ=$${CLOACINA_FUZZ:-1000} $(PYTHON) -m pytest --timeout 0 $(PYTEST_FLAGS) tests/test_fuzz.py tests/test_cron_expressions.py

.PHONY: features
features: ## Test the crate with each database alone
	cargo test -p cloacina --no-default-features --features sqlite $(CARGO_FLAGS)
	cargo test -p cloacina --no-default-features --features postgres $(CARGO_FLAGS)

.PHONY: long
long: ## Run the load tests at full length (half an hour)
	@scripts/setup.sh test dev
	CLOACA_TEST_SECONDS=$${CLOACA_TEST_SECONDS:-60} $(PYTHON) -m pytest --timeout 900 tests/test_kill.py tests/test_outage.py \
		tests/test_many_processes.py tests/test_idle.py tests/test_stall.py tests/test_schedules.py tests/test_maps_kill.py
	CLOACA_TEST_SECONDS=$${CLOACA_TEST_SECONDS:-60} CLOACA_TEST_WAITS=$${CLOACA_TEST_WAITS:-100000} \
		$(PYTHON) -m pytest --timeout 3600 tests/test_waits_scale.py
	CLOACINA_RACES=$${CLOACINA_RACES:-10000} cargo test --workspace $(CARGO_FLAGS) --test runner -- races:: race_steps::
	CLOACA_TEST_TENANT_EXECUTIONS=$${CLOACA_TEST_TENANT_EXECUTIONS:-1000} $(PYTHON) -m pytest --timeout 3600 \
		tests/test_shared_tenants.py -k many

.PHONY: chaos
chaos: ## Break databases, networks and disks under load; writes docs/explanation/chaos-report.md
	@scripts/setup.sh test dev
	$(PYTHON) scripts/chaos.py

.PHONY: check
check: ## Check words, format, lints and types
	@scripts/setup.sh test
	$(PYTHON) scripts/check_words.py
	scripts/ui.sh check
	cargo fmt --all --check
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --package cloacina --package cloacina-web --no-deps --quiet $(CARGO_FLAGS)
	@scripts/setup.sh test dev
	$(BIN)/mypy $(TYPED_SOURCES)
	$(PYTHON) -m mypy.stubtest cloaca._core --mypy-config-file pyproject.toml

.PHONY: ui
ui: ## Build the page of `cloaca ui`
	@scripts/ui.sh build

# The tests of annotations, syntax trees and error messages, which releases of Python change.
PER_PYTHON := $(wildcard tests/test_forward_references.py tests/test_typed*.py tests/test_fingerprint.py tests/test_mistakes.py)

.PHONY: test-pythons
test-pythons: ## Test what releases of Python change, with 3.12, 3.13 and 3.14
	@scripts/setup.sh test dev
	@pythons=$$(scripts/pythons.sh); for python in $$pythons; do \
		PYTHONPATH="$(CURDIR)/python" "$$python" -m pytest -p cloaca._testing.plugin $(PYTEST_FLAGS) $(PER_PYTHON); \
	done

.PHONY: test-web
test-web: ## Test the page in Chromium
	@scripts/setup.sh test dev
	@command -v chromium >/dev/null || apt-get install -y -qq chromium >/dev/null
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements/web.txt
	$(PYTHON) -m pytest --timeout 300 tests/web

.PHONY: format
format: ## Format the sources and fix what the linter can
	@scripts/setup.sh test
	cargo fmt --all
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/ruff format $(PYTHON_SOURCES)

.PHONY: docs
docs: ## Build the documentation into site/
	@scripts/setup.sh docs dev
	$(PYTHON) scripts/reference_pages.py
	$(PYTHON) scripts/cli_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.PHONY: openapi
openapi: ## Rewrite the OpenAPI document of the HTTP API
	CLOACINA_WRITE_OPENAPI=1 cargo test --quiet -p cloacina-web --lib openapi $(CARGO_FLAGS)

.PHONY: pictures
pictures: ## Redraw the pictures of the documentation
	@scripts/setup.sh test dev
	$(PYTHON) scripts/pictures.py
	$(PYTHON) scripts/cli_pictures.py

.PHONY: screenshots
screenshots: ## Take the screenshots of the page for the documentation
	@scripts/setup.sh test dev
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements/web.txt
	$(PYTHON) scripts/screenshots.py

.PHONY: bench
bench: ## Measure the workloads against the limits of this machine
	@scripts/setup.sh test release
	$(PYTHON) benchmarks/run.py
	$(PYTHON) scripts/reference_pages.py
	$(PYTHON) scripts/pictures.py

.PHONY: bench-peers
bench-peers: ## Measure other libraries with the same workloads
	@scripts/setup.sh test release
	$(PYTHON) benchmarks/peers/run.py

.PHONY: wheel
wheel: ## Build the wheel into dist/
	@scripts/setup.sh test wheel
	rm -f dist/cloaca-*.whl
	$(BIN)/maturin build --release --out dist $(CARGO_FLAGS)

.PHONY: lock
lock: ## Update the lock files of the Python packages, with the oldest supported Python
	scripts/lock.sh

.PHONY: clean
clean: ## Remove what was built and the virtual environment
	rm -rf .venv .pythons benchmarks/peers/.venvs target dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/cloaca/*.so
	find python tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
