# Everything that a developer runs; `make` alone lists it. Set-up happens by itself, once.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := .venv/.ready
JS_READY := tests/js/node_modules/.ready clients/js/node_modules/.ready
JS_CHECKED := clients/js/node_modules/.checked
# The TypeScript client of the page to try the server on.
PAGE_CLIENT := src/tidegate/server/dashboard/static/vendor/tidegate.js
CONFIG := $(or $(wildcard tidegate.toml),examples/development.toml)

.PHONY: help
help: ## List the targets
	@echo "Tidegate. Targets:"
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) $(JS_READY) ## Prepare everything (the other targets do it when needed)

.PHONY: run
run: $(READY) ## Serve on 127.0.0.1:8000, with a page to try it on (ARGS="--set server.port=9000")
	@export TIDEGATE_CONFIG="$${TIDEGATE_CONFIG:-$(CONFIG)}"; exec $(BIN)/tidegate serve $(ARGS)

.PHONY: test
test: $(READY) $(JS_READY) ## Run all tests, several files at once (ARGS="-k handshake" for some)
	@$(BIN)/pytest --numprocesses auto --dist loadfile $(ARGS)

.PHONY: unit
unit: $(READY) ## Run the unit tests only: no sockets, a few seconds
	@$(BIN)/pytest tests/unit $(ARGS)

.PHONY: check
check: $(READY) $(JS_READY) ## Format, lint, types, import floors, generated files
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run 'make format'."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/pyright --pythonpath $(BIN)/python examples) || { echo "$$said"; exit 1; }
	@said=$$($(BIN)/lint-imports --no-logo) || { echo "$$said"; exit 1; }
	@$(BIN)/python tools/generate.py --check
	@$(BIN)/python tools/vectors.py --check
	@$(MAKE) $(JS_CHECKED)
	@echo "All checks passed."

.PHONY: format
format: $(READY) ## Format the code and fix what the linter can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

.PHONY: bench
bench: $(READY) ## Compare with other servers in one run (under 6 minutes)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-asgi
bench-asgi: $(READY) ## Compare ASGI servers on one FastAPI application (4 minutes)
	@$(BIN)/python -m bench.asgi $(ARGS)

.PHONY: bench-storm
bench-storm: $(READY) ## Cut 15,000 connections that all come back at once (3 minutes)
	@$(BIN)/python -m bench.storm $(ARGS)

.PHONY: bench-overload
bench-overload: $(READY) ## Twice as many as the pace lets in, and a room with members who do not read (8 minutes)
	@$(BIN)/python -m bench.overload $(ARGS)

.PHONY: bench-messaging
bench-messaging: $(READY) ## What histories, three formats and presence cost (2 minutes)
	@$(BIN)/python -m bench.messaging $(ARGS)

.PHONY: bench-scale
bench-scale: $(READY) ## One process, two workers, nodes over Valkey and NATS, and peers beside (6 minutes)
	@$(BIN)/python -m bench.scale $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## Send 100,000 messages by chance in each format, to the protocol and over sockets
	@FUZZ_MESSAGES=$${FUZZ_MESSAGES:-100000} $(BIN)/pytest tests/fuzz $(ARGS)

.PHONY: fuzz-guided
fuzz-guided: $(READY) ## Let coverage choose the bytes, a minute each for the formats and the wire (atheris)
	@$(PIP) install --group fuzz
	@for target in json msgpack proto wire; do \
	  $(BIN)/python -m tests.fuzz.guided $$target -max_total_time=60 $(ARGS) || exit 1; done

.PHONY: soak
soak: $(READY) ## Hold 15,000 connections for 5 minutes
	@$(BIN)/python -m bench.soak $(ARGS)

.PHONY: conformance
conformance: $(READY) ## Run the Autobahn testsuite (needs Python 2.7 beside Python 3)
	@$(BIN)/python tests/conformance/run.py $(ARGS)

.PHONY: image
image: $(READY) ## Build the image and run it (needs root, buildah, debootstrap; 3 minutes)
	@$(BIN)/python tests/image/run.py

.PHONY: docs/generate
docs/generate: $(READY) $(JS_READY) ## Write the generated pages of docs/reference, and the client of /try
	@$(BIN)/python tools/generate.py
	@$(BIN)/python tools/vectors.py
	@if [ -e clients/js/node_modules/.ready ]; then \
	  (cd clients/js && npm run --silent build >/dev/null) && cp clients/js/dist/index.js $(PAGE_CLIENT); \
	fi

.PHONY: docs
docs: $(READY) ## Build the documentation as a site, offline, into build/site/html
	@$(BIN)/python tools/site.py

.PHONY: docs/serve
docs/serve: $(READY) ## Build it, and serve it on 127.0.0.1:8080
	@$(BIN)/python tools/site.py serve

.PHONY: clean
clean: ## Remove what was built, installed and cached
	@rm -rf .venv build dist bench/build tests/js/node_modules clients/js/node_modules clients/js/dist
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests bench examples tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# `command -v` is not enough: a version manager's shim may be there and not run.
$(READY): pyproject.toml
	@for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Tidegate needs Python 3.11 or newer, and none was found on the PATH." >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$($$found -V 2>&1) (once, about a minute)"; \
	$$found -m venv .venv || { echo "Could not make .venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[all]' --group dev
	@touch $@

# Without Node.js, or with an old one, the tests that need it are skipped, and say so; with CI=true
# they fail.
$(JS_READY): %/node_modules/.ready: %/package.json %/package-lock.json
	@if node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' 2>/dev/null; then \
	  echo "Installing what $* needs"; \
	  (cd $* && npm ci --no-audit --no-fund --loglevel=error >/dev/null) && touch $@; \
	else \
	  echo "Node.js 20 with npm was not found: the tests of $* will be skipped."; \
	fi

# Types, size and package of the TypeScript client, when something has changed.
$(JS_CHECKED): $(wildcard clients/js/src/* clients/js/test/* clients/js/test/*/* clients/js/*.json clients/js/*.ts $(PAGE_CLIENT))
	@if [ -e clients/js/node_modules/.ready ]; then \
	  said=$$(cd clients/js && npm run --silent check 2>&1) || { echo "$$said"; exit 1; }; \
	  cmp -s clients/js/dist/index.js $(PAGE_CLIENT) || { echo "$(PAGE_CLIENT) is not clients/js as it is: run 'make docs/generate'"; exit 1; }; \
	  touch $@; \
	fi
