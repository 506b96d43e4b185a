# Every target sets up what it needs, in the project's own virtual environment (.venv).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTHON := $(BIN)/python
# Adds to PATH the folder in which rustup installs cargo. A shell that was started before rustup was installed does not
# have this folder in its PATH.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# PyO3's build script runs this interpreter instead of the first one in PATH.
export PYO3_PYTHON := $(CURDIR)/$(PYTHON)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX
# Tests, examples and benchmarks start their own databases. Settings for another database would change how the engine and
# psql connect to them. The variables that begin with PG are those of libpq, such as PGHOST and PGSSLMODE.
unexport $(filter PG%,$(.VARIABLES)) CLOACA_DATABASE_URL

# Under CI the lock file must be up to date; elsewhere cargo may update it.
CARGO_FLAGS ?= $(if $(CI),--locked)
# Two test processes run at a time. A process that has run all its tests takes over tests of the other process.
PYTEST_FLAGS ?= -n 2 --dist worksteal
# The options in PYTEST_FLAGS that select some of the Python tests. If there is such an option, `make test` runs no Rust
# tests.
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

# The factor by which the number of random inputs is multiplied. With the default of 4, the tests take minutes instead of
# seconds.
FUZZ := CLOACINA_FUZZ=$${CLOACINA_FUZZ:-4}

# The seed of random inputs of Rust tests. With a fixed seed, a second run has the same inputs. `make fuzz` sets no seed.
SEED := PROPTEST_RNG_SEED=$${PROPTEST_RNG_SEED:-1}

# Options that exclude the longest tests of the simulation from the development build. `make test` runs these tests through
# `make simulate`, in an optimized build.
SIMULATED := --skip every_seed --skip every_mutant --skip random_interleavings

.PHONY: test
test: ## Run all tests, or only some: make test PYTEST_FLAGS="tests/test_x.py -k y"
	@scripts/setup.sh test dev
	$(if $(PART),,$(FUZZ) $(SEED) cargo test --workspace --no-fail-fast $(CARGO_FLAGS) -- $(SIMULATED))
	$(if $(PART),,$(MAKE) simulate)
	$(FUZZ) $(PYTHON) -m pytest $(PYTEST_FLAGS)

# Runs the simulation in an optimized build that supports only SQLite.
SIMULATION := cargo test -p cloacina --no-default-features --features sqlite --profile simulation --test simulation $(CARGO_FLAGS) --

.PHONY: simulate
simulate: ## Simulate several runners with every kind of fault, with 10,000 seeds
	CLOACINA_SEEDS=$${CLOACINA_SEEDS:-10000} CLOACINA_INTERLEAVINGS=$${CLOACINA_INTERLEAVINGS:-10000} $(SIMULATION) --nocapture

.PHONY: soak
soak: ## Simulate a million seeds, and 100,000 interleavings of waits (hours)
	CLOACINA_SEEDS=$${CLOACINA_SEEDS:-1000000} $(SIMULATION) --nocapture every_seed
	CLOACINA_INTERLEAVINGS=$${CLOACINA_INTERLEAVINGS:-100000} $(SIMULATION) --nocapture random_interleavings

.PHONY: fuzz
fuzz: ## Run the tests that use random inputs, with 1,000 times as many inputs (hours)
	@scripts/setup.sh test dev
	CLOACINA_FUZZ=$${CLOACINA_FUZZ:-1000} cargo test -p cloacina --profile simulation --test fuzz $(CARGO_FLAGS)
	CLOACINA_FUZZ=$${CLOACINA_FUZZ:-1000} $(PYTHON) -m pytest --timeout 0 $(PYTEST_FLAGS) tests/test_fuzz.py tests/test_cron_expressions.py

.PHONY: features
features: ## Test the crate built with SQLite only, then with PostgreSQL only
	cargo test -p cloacina --no-default-features --features sqlite $(CARGO_FLAGS)
	cargo test -p cloacina --no-default-features --features postgres $(CARGO_FLAGS)

.PHONY: long
long: ## Run the load tests at full length (an hour)
	@scripts/setup.sh test dev
	CLOACA_TEST_SECONDS=$${CLOACA_TEST_SECONDS:-60} $(PYTHON) -m pytest --timeout 900 tests/test_kill.py tests/test_outage.py \
		tests/test_many_processes.py tests/test_idle.py tests/test_stall.py tests/test_schedules.py tests/test_maps_kill.py
	CLOACA_TEST_SECONDS=$${CLOACA_TEST_SECONDS:-60} CLOACA_TEST_WAITS=$${CLOACA_TEST_WAITS:-100000} \
		$(PYTHON) -m pytest --timeout 3600 tests/test_waits_scale.py
	CLOACA_TEST_PARENTS=$${CLOACA_TEST_PARENTS:-10000} CLOACA_TEST_RACES=$${CLOACA_TEST_RACES:-1000} \
		CLOACA_TEST_WAITS=$${CLOACA_TEST_WAITS:-100000} $(PYTHON) -m pytest --timeout 7200 \
		tests/test_children_faults.py tests/test_children_races.py tests/test_children_scale.py
	CLOACA_TEST_MAP_RACES=$${CLOACA_TEST_MAP_RACES:-200} $(PYTHON) -m pytest --timeout 900 tests/test_maps_races.py
	CLOACA_TEST_RACES=$${CLOACA_TEST_RACES:-10000} CLOACA_TEST_KILLS=$${CLOACA_TEST_KILLS:-30} \
		$(PYTHON) -m pytest --timeout 3600 tests/test_waits_race.py tests/test_steps_kill.py
	CLOACINA_RACES=$${CLOACINA_RACES:-10000} cargo test --workspace $(CARGO_FLAGS) --test runner -- races:: race_steps::
	CLOACA_TEST_TENANT_EXECUTIONS=$${CLOACA_TEST_TENANT_EXECUTIONS:-1000} $(PYTHON) -m pytest --timeout 3600 \
		tests/test_shared_tenants.py -k many
	CLOACA_TEST_EXECUTIONS=$${CLOACA_TEST_EXECUTIONS:-1000000} CLOACA_TEST_OPEN=$${CLOACA_TEST_OPEN:-600} \
		$(MAKE) test-web WEB_TESTS="--timeout 1800 tests/web/test_large.py tests/web/test_live.py"

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
ui: ## Build the web page of `cloaca ui`
	@scripts/ui.sh build

# Tests of annotations, syntax trees and error messages, which differ between Python releases.
PER_PYTHON := $(wildcard tests/test_forward_references.py tests/test_typed*.py tests/test_fingerprint.py tests/test_workflow_versions.py tests/test_mistakes.py)

.PHONY: test-pythons
test-pythons: ## Run the tests that depend on the Python release, on 3.13, 3.14 and, if installed, 3.12
	@scripts/setup.sh test dev
	@pythons=$$(scripts/pythons.sh); for python in $$pythons; do \
		PYTHONPATH="$(CURDIR)/python" "$$python" -m pytest -p cloaca._testing.plugin $(PYTEST_FLAGS) $(PER_PYTHON); \
	done

# The tests that `make test-web` runs.
WEB_TESTS ?= --timeout 300 tests/web

.PHONY: test-web
test-web: ## Test the web page in Chromium
	@scripts/setup.sh test dev
	@command -v chromium >/dev/null || apt-get install -y -qq chromium >/dev/null
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements/web.txt
	$(PYTHON) -m pytest $(WEB_TESTS)

.PHONY: format
format: ## Format the sources and apply the linter's fixes
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

.PHONY: schema
schema: ## Rewrite the tables of a new SQLite database
	CLOACINA_WRITE_SCHEMA=1 cargo test --quiet -p cloacina --lib a_new_database $(CARGO_FLAGS)

.PHONY: pictures
pictures: ## Redraw the pictures of the documentation
	@scripts/setup.sh test dev
	$(PYTHON) scripts/pictures.py
	$(PYTHON) scripts/cli_pictures.py

.PHONY: screenshots
screenshots: ## Take the screenshots of the web page for the documentation
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
wheel: ## Build the wheel into dist/, from a source distribution and without Node
	@scripts/setup.sh test wheel
	rm -f dist/cloaca-*
	@fake=$$(mktemp -d) && trap 'rm -rf "$$fake"' EXIT && ln -s "$$(command -v false)" "$$fake/node" && \
		ln -s "$$(command -v false)" "$$fake/npm" && \
		PATH="$$fake:$$PATH" $(BIN)/maturin build --release --sdist --compression-level 9 --out dist $(CARGO_FLAGS)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check zopfli==0.4.3
	$(PYTHON) scripts/compress_wheel.py dist/cloaca-*.whl
	@test $$(stat -c %s dist/cloaca-*.whl) -le 6500000 || { echo "make: the wheel is larger than 6.5 MB" >&2; exit 1; }

.PHONY: lock
lock: ## Update the lock files of the Python packages, with the oldest supported Python
	scripts/lock.sh

.PHONY: clean
clean: ## Remove build results and the virtual environment
	rm -rf .venv .pythons benchmarks/peers/.venvs target dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/cloaca/*.so
	find python tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
