# Every target makes the environment (.venv) if it is missing. `make help` lists them.
PYTHON ?= python3
DATA ?= imdb
RECIPE ?= gru
EPOCHS ?=
ROWS ?= 20000
ROUNDS ?= 2
RUNTIME := cpu,parquet,files,ray,report,serve,train,tensorboard
BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest
# On two cores, one thread each.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses 2 --dist worksteal
# What `make test` leaves out, each with a target of its own.
CLUSTER_TESTS := tests/scoring/ray
PAGE_TESTS := tests/report/test_page_in_browser.py tests/report/test_layout_in_browser.py tests/serving/test_page_in_browser.py
DOCS_TESTS := tests/docs/test_site.py tests/docs/test_walks.py
BROWSER_EXAMPLE := examples/tests/test_browser.py
# What a change has to pass: these one after the other, for they take both cores or want the machine to themselves; then
# those that take one core each, two at a time.
CHECKS := lint test test-cluster test-docs
CHECKS_OF_ONE_CORE := test-embed test-runtimes test-pages
NODE_READY := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard examples/*/package-lock.json))

# The tests start processes by the hundred: where this is set, each compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo train $(CHECKS) $(CHECKS_OF_ONE_CORE) check chromium docs bench format dist sbom clean help
.DEFAULT_GOAL := help

setup: $(READY)  ## make the environment

# Most modules are never imported; those that are get their bytecode then.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,train,parquet,files,ray,report,serve,tensorboard,docs,dev,examples]'
	touch $@

demo: $(READY)  ## train on the embedded sample, export, verify, score, and show the results
	$(BIN)/toolchain train --recipe gru --data sample --epochs 6 --out demo/snapshot --overwrite
	$(BIN)/toolchain export --format all --snapshot demo/snapshot --out demo/bundle
	$(BIN)/toolchain verify demo/bundle --snapshot demo/snapshot --data sample
	$(BIN)/toolchain score data/sample_test.csv --label-column label --bundle demo/bundle --out demo
	$(BIN)/toolchain inspect demo/bundle
	@echo; echo "demo/sample_test.scored.csv:"; head -n 8 demo/sample_test.scored.csv

train: $(READY)  ## train on IMDB: make train [DATA=imdb|sample|PATH] [RECIPE=gru|rnn|rnn-cell|auto] [EPOCHS=N]
	$(BIN)/toolchain train --recipe $(RECIPE) --data $(DATA) $(if $(EPOCHS),--epochs $(EPOCHS))

test: $(READY)  ## run the tests, but for those of the next four targets
	$(SIDE_BY_SIDE) $(addprefix --ignore=,$(CLUSTER_TESTS) $(PAGE_TESTS) $(DOCS_TESTS))

# Its nodes want the machine to themselves.
test-cluster: $(READY)  ## run the tests of scoring on a Ray cluster, which they start
	$(PYTEST) $(CLUSTER_TESTS)

test-pages: chromium $(READY) $(NODE_READY)  ## run the tests of the pages in Chromium: the report, the service, the browser example
	$(PYTEST) $(PAGE_TESTS) $(BROWSER_EXAMPLE)

chromium:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { echo "make test-pages opens pages in Chromium: apt-get install chromium chromium-driver" >&2; exit 1; }

test-docs: $(READY) docs/diagrams/node_modules/.package-lock.json  ## build the documentation, and run its commands page by page
	$(SIDE_BY_SIDE) $(DOCS_TESTS)

test-embed: $(READY) $(NODE_READY)  ## run every other example in its runtime against a fresh bundle's vectors
	$(PYTEST) examples/tests --ignore=$(BROWSER_EXAMPLE)

test-runtimes: $(READY)  ## run the vectors in old and new versions of ONNX Runtime, in Python and in Node; they are kept in build/runtimes
	$(BIN)/python -m tests.runtimes.matrix

check: $(CHECKS)  ## all of it: what a change has to pass
	$(MAKE) --jobs 2 --output-sync=target $(CHECKS_OF_ONE_CORE)

# The install scripts only fetch what the CPU does not need (CUDA).
%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	touch $@

docs: $(READY) docs/diagrams/node_modules/.package-lock.json  ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## scoring speed side by side, with snapshot/ or weights by chance: make bench [DATA=PATH/aclImdb] [ROWS=N] [ROUNDS=N]
	$(BIN)/python benchmarks/scoring.py --data $(if $(filter file,$(origin DATA)),sample,$(DATA)) --rows $(ROWS) --rounds $(ROUNDS)

lint: $(READY)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The same commit gives the same bytes: what it holds and nothing that lies about, no time but the commit's, and
# constraints.txt pins hatchling.
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --pretty=%ct)
dist: $(READY)  ## build the wheel and the sdist into dist/
	rm -rf dist build/source
	mkdir -p build/source
	git archive HEAD | tar -x -C build/source
	cd build/source && ../../$(BIN)/python -m hatchling build -d ../../dist -t sdist -t wheel

# In an environment of its own: beside Ray, what it brings along would make every process of Ray start two seconds later.
sbom: $(READY)  ## list what an installation brings along, with licences, in sbom.json
	$(PYTHON) -m venv --clear --without-pip build/runtime
	$(BIN)/python -m pip --python build/runtime install --quiet --disable-pip-version-check --constraint constraints.txt '.[$(RUNTIME)]'
	$(BIN)/python -m pip --python build/runtime uninstall --quiet --yes toolchain
	$(PYTHON) -m venv build/cyclonedx
	build/cyclonedx/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt cyclonedx-bom
	build/cyclonedx/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json build/runtime

clean:  ## remove the environment, the demo and all caches; snapshot/ and bundle/ stay
	rm -rf .venv demo dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
