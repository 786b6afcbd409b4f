# `make` prints what there is. Every target makes the environment it needs by itself.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps
TESTS := $(BIN)/pytest --quiet --numprocesses 3 --dist worksteal
MINUTES ?= 5
SEED ?= 1
SHAPE ?= both
TARGET ?= csv
DIST ?= dist
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help demo serve test check storm fuzz format lint types contracts lock release clean

help:  ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/base  ## train on handwritten digits over HTTP, and show what comes of it
	@$(BIN)/python -m app.cli demo

serve: .venv/base  ## run the API and a worker until Ctrl-C
	@$(BIN)/python -m app.cli serve

test: lint types contracts  ## everything CI checks: lint, types, contracts, all tests
	$(TESTS)

check: format lint types contracts  ## the truth in about a minute: all but the end-to-end tests
	$(TESTS) -m "not e2e"

storm: .venv/dev  ## kill and freeze everything at random: MINUTES=5 SEED=1 SHAPE=embedded|production|both
	@$(BIN)/python -m tests.e2e.storm --minutes $(MINUTES) --seed $(SEED) --shape $(SHAPE)

fuzz: .venv/fuzz  ## send a parser what nobody would: MINUTES=5 SEED=1 TARGET=csv|tsv|ndjson|json|parquet|arrow|images|npz|npy|…
	@$(BIN)/python -m tests.fuzz $(TARGET) --minutes $(MINUTES) --seed $(SEED)

format: .venv/dev  ## format the code
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --quiet --fix-only .

lint: .venv/dev  ## look for faults in the code, the Dockerfile and the compose file
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml

types: .venv/dev  ## check the types
	$(BIN)/mypy

contracts: .venv/dev  ## check who may import whom
	$(BIN)/lint-imports --no-cache > .venv/contracts.log || (cat .venv/contracts.log; exit 1)

lock: .venv/dev  ## resolve the dependencies anew, with hashes
	for names in "base.txt pyproject.toml" "production.txt pyproject.toml --extra s3" \
		"dev.txt pyproject.toml --extra s3 --group dev" "fuzz.txt --group fuzz"; do \
		$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header \
			--python-version 3.11 --output-file requirements/$$names || exit 1; \
	done

release: .venv/dev  ## the sources of this commit, their bill of materials and checksums, into dist/
	rm -rf $(DIST)
	mkdir -p $(DIST)
	git archive --prefix=chainrule-$(VERSION)/ --output=$(DIST)/chainrule-$(VERSION).tar.gz HEAD
	$(BIN)/python -W ignore -m cyclonedx_py requirements requirements/production.txt \
		--pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file $(DIST)/chainrule-$(VERSION).cdx.json
	cd $(DIST) && sha256sum * > SHA256SUMS

clean:  ## remove the environment and what the service stored here
	rm -rf .venv var $(DIST)

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/base: requirements/base.txt | .venv/bin/pip
	@echo "Installing into .venv …"
	@$(INSTALL) -r $<
	@touch $@

.venv/dev: requirements/dev.txt | .venv/bin/pip
	@echo "Installing into .venv …"
	@$(INSTALL) -r $<
	@touch $@ .venv/base

.venv/fuzz: requirements/fuzz.txt .venv/dev
	@$(INSTALL) -r $<
	@touch $@
