# Everything that a developer or CI runs. `make help` lists the targets.
# Needed beforehand: CPython >= 3.11 and Rust with rustfmt and clippy. The rest goes into .venv.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000

BIN := $(VENV)/bin
RUN := $(BIN)/python
TYPED := python/ferrows $(wildcard examples benchmarks)
FORMATTED := $(wildcard python tests examples benchmarks)
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/bin/python
# Since 0.23 uvloop writes at once what 0.22 gathers until the end of the turn: a peer that answers 32 messages one by one
# pays 32 system calls in place of one. The older one is the harder yardstick.
BENCH_UVLOOP ?= 0.22.1
FUZZ := rust/fuzz
FUZZ_SECONDS ?= 600
# Under Miri all the tests of the core would take hours: each replays its stream cut at every byte.
MIRI_TESTS := test_6_1_sending_fragments test_each_fragment_can_be_read test_7_2_3_2 test_7_2_3_3
MIRI_SKIPS := --skip naive_loop --skip all_sequences
CRATES := $(shell find Cargo.toml rust/core rust/bindings -name '*.rs' -o -name Cargo.toml)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Both extension builds and clippy see the interpreter of the environment, however make was called.
export PYO3_PYTHON := $(abspath $(RUN))
export VIRTUAL_ENV := $(abspath $(VENV))
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MAKEFLAGS += --no-print-directory

.PHONY: help setup build serve test test-fast lint type fmt cargo-test differential hostile panics fuzz fuzz-short fuzz-seeds miri audit wheel bench bench-quick bench-against bench-instructions bench-setup system-deps clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: pyproject.toml | $(RUN)
	$(RUN) -m pip install --upgrade 'pip>=25.1'
	$(RUN) -m pip install --group dev
	@touch $@

$(VENV)/.build: pyproject.toml $(CRATES) | $(VENV)/.setup
	$(BIN)/maturin develop --release
	@touch $@

setup: $(VENV)/.setup ## make .venv and install the tools into it

build: $(VENV)/.build ## build the extension into .venv, if its sources changed

serve: build ## run the chat example; HOST and PORT say where
	HOST=$(HOST) PORT=$(PORT) $(RUN) examples/chat.py

test: lint type cargo-test build ## everything that CI checks: lint, types, Rust, then pytest on the extension and on the twin
	$(RUN) -m coverage erase
	$(RUN) -m pytest --cov --cov-report= --cov-fail-under=0
	FERROWS_NO_EXTENSIONS=1 $(RUN) -m pytest --cov --cov-append

test-fast: build ## pytest on the extension alone, without peers and without coverage
	$(RUN) -m pytest --ignore=tests/interop

lint: setup ## check the format, clippy and ruff
	cargo fmt --all --check
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --manifest-path $(FUZZ)/Cargo.toml --target-dir target/fuzz-tests --all-targets -- -D warnings
	$(RUN) -m ruff format --check $(FORMATTED)
	$(RUN) -m ruff check $(FORMATTED)

type: build ## check the types, and the stub of the extension against the extension
	$(RUN) -m mypy $(TYPED)
	MYPYPATH=python $(RUN) -m mypy.stubtest ferrows._core

fmt: setup ## format everything
	cargo fmt --all
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml
	$(RUN) -m ruff check --fix $(FORMATTED)
	$(RUN) -m ruff format $(FORMATTED)

cargo-test: ## test the core crate, the load generator, and the fuzz targets over their seeds and some mutations
	cargo test -p ferrows-core -p ferrows-loadgen -p ferrows-floors
	cargo test --manifest-path $(FUZZ)/Cargo.toml --target-dir target/fuzz-tests

differential: build ## compare the extension with the twin, and drive both ends of a connection, for a long time
	HYPOTHESIS_PROFILE=long $(RUN) -m pytest --timeout=0 tests/differential tests/statemachine

# Never in a wheel: this extension panics wherever a test asks it to.
panics: build ## test that a panic of the extension ends one connection and nothing else
	cargo build -p ferrows-bindings --features panic-injection --target-dir target/panics
	RUST_BACKTRACE=0 $(RUN) -m tests.panics target/panics/debug/lib_core.so

fuzz: ## fuzz each target for FUZZ_SECONDS under AddressSanitizer
	$(FUZZ)/run $(FUZZ_SECONDS)

fuzz-short: ## fuzz each target for some seconds, as CI does; skipped where there is no nightly compiler, but not in CI
	FUZZ_OPTIONAL=1 $(FUZZ)/run 10

fuzz-seeds: ## write the seeds that are committed
	rm -rf $(FUZZ)/seeds
	cargo run --quiet --manifest-path $(FUZZ)/Cargo.toml --target-dir target/fuzz-tests --bin seeds -- $(FUZZ)/seeds committed

# The core forbids `unsafe`; what Miri sees is the core's use of zlib-rs and simdutf8, which do not. The bindings it cannot
# run: they call the interpreter, which is C.
miri: ## run tests of the core under Miri, which finds undefined behaviour in it and in the crates below it
	@cargo +nightly miri --version >/dev/null 2>&1 || rustup component add --toolchain nightly miri rust-src \
	    || { echo "Miri is missing: it is a component of a nightly compiler, which rustup installs" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p ferrows-core --target-dir target/miri --lib -- $(MIRI_SKIPS)
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p ferrows-core --target-dir target/miri --test rfc7692 -- $(MIRI_TESTS)

# Both need the network: for the tools, and for what is known of the dependencies.
audit: setup ## look for advisories, licences and sources that are not permitted, and for workflows that are open to attack
	.ci/audit $(RUN)

hostile: build ## attack the server and its peers in full size and write docs/resilience.md, in under ten minutes
	$(RUN) -m tests.hostile --output docs/resilience.md

wheel: setup ## build a wheel into dist/
	$(BIN)/maturin build --release --out dist --interpreter $(RUN)

# The peers have an environment of their own, on the same interpreter; each that cannot be installed is named in the report.
$(BENCH_VENV)/.uvloop-$(BENCH_UVLOOP): $(wildcard benchmarks/peers/*) | $(RUN)
	$(RUN) -m venv $(BENCH_VENV)
	$(BENCH) -m benchmarks.peers.install $(BENCH_UVLOOP)
	@rm -f $(BENCH_VENV)/.uvloop-*
	@touch $@

bench-setup: build $(BENCH_VENV)/.uvloop-$(BENCH_UVLOOP)
	cargo build --release -p ferrows-loadgen -p ferrows-floors

# `run` ends with 1 if a server failed somewhere; the report says which.
bench: bench-setup ## measure everything against the peers and write benchmarks/REPORT.md, in under an hour
	$(BENCH) -m benchmarks.run || [ $$? = 1 ]
	$(BENCH) -m benchmarks.render

bench-quick: bench-setup ## measure the main table in under five minutes and show it
	$(BENCH) -m benchmarks.run --quick --output benchmarks/results/quick.json || [ $$? = 1 ]
	$(BENCH) -m benchmarks.render --no-plots --output benchmarks/results/quick.md benchmarks/results/quick.json
	@cat benchmarks/results/quick.md

# REV is a commit from before a change whose cost is in question.
bench-against: bench-setup ## measure the main table against another commit, REV, into docs/performance.md, in five minutes
	$(BENCH) -m benchmarks.against $(REV) --page docs/performance.md

# The installed extension has no symbols; this one is built from the same sources beside it.
bench-instructions: build ## count the instructions of a message under valgrind and write them into docs/performance.md
	cargo build --release -p ferrows-bindings --config profile.release.strip=false --target-dir target/instructions
	$(RUN) -m benchmarks.instructions target/instructions/release/lib_core.so --page docs/performance.md

# A browser and Node's `ws` are peers in tests/interop; what is there already is taken.
system-deps: ## install Chromium and Node with Debian's packages, and ws with npm
	@set -e; missing=; \
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	if [ -n "$$missing" ]; then \
	    $(SUDO) apt-get update -qq; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	fi
	npm install --prefix tests/interop/node --no-package-lock --no-audit --no-fund

clean: ## remove what builds and tests left, and .venv
	rm -rf $(VENV) $(BENCH_VENV) target build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf tests/interop/node/node_modules
	rm -f python/ferrows/_core*.so python/ferrows/_core*.pyd
	find $(FORMATTED) -name __pycache__ -prune -exec rm -rf {} +
