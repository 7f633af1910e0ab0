# Two commands matter: `make up` (a cluster on this machine) and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
DATA_DIR ?= /var/lib/kelson
LISTEN ?= 0.0.0.0:6443
NODES ?= 1
TOOLS := $(CURDIR)/.cache/tools
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
KUBECTL ?= $(TOOLS)/bin/kubectl
export PATH := $(TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: deps kubectl release demo-images ## install what is needed, build, start a cluster, show it working; NODES=3: on three hosts in network namespaces
	@./scripts/up $(TARGET)/release/kelson $(DATA_DIR) $(LISTEN) $(KUBECTL) $(NODES)
	@$(MAKE) --no-print-directory demo

down: ## stop the cluster and remove every trace of it
	@./scripts/down $(TARGET)/release/kelson $(DATA_DIR)

demo: ## the example application on the running cluster
	@./scripts/demo $(DATA_DIR) $(KUBECTL)

demo-images: release ## build the example's images from Debian packages
	@./examples/shop/build $(CURDIR)/.cache/images

test: deps kubectl ## unit, property and end-to-end tests
	./scripts/mutants --check
	./scripts/unit
	./scripts/e2e $(TARGET)/debug/kelson $(KUBECTL)

check: deps ## format, lints, layering, ARM64 where it can be had
	@./scripts/check

fresh: ## make up, the README's lines, make test and make down in a fresh Debian root with namespaces of its own
	@$(SUDO) ./scripts/fresh

test-v2: deps kubectl ## a node under control groups of version 2, in a QEMU guest
	cargo build -p kelson
	./scripts/test-v2 $(TARGET)/debug/kelson $(KUBECTL)

chaos: deps kubectl ## half an hour of workloads while everything breaks, on three hosts; SEED=N DURATION=SECONDS; PLANTED=1: shows that planted faults are seen
	cargo build -p kelson
	SEED=$(SEED) DURATION=$(DURATION) ./scripts/chaos $(if $(PLANTED),--planted) $(TARGET)/debug/kelson $(KUBECTL)

mutants: deps ## switches off behaviours one by one; the tests have to see each
	./scripts/mutants

conformance: deps kubectl release ## upstream's conformance tests against a cluster of its own; FOCUS=REGEX takes a part of all its tests, PROCS=N at once, ENGINE=etcd; needs Go
	KUBECTL=$(KUBECTL) ./tests/conformance/run $(if $(FOCUS),--focus '$(FOCUS)') $(if $(PROCS),--procs $(PROCS)) $(if $(ENGINE),--engine $(ENGINE)) --kelson $(TARGET)/release/kelson

bench: deps ## the table of figures beside their peers
	./scripts/bench

soak: deps ## for hours: hostile input (FUZZ_SECONDS of it; needs g++), power cuts, a million updates
	./scripts/soak-fuzz
	PROPTEST_CASES=20000 cargo test -p store
	./scripts/soak-histories
	cargo build --release -p kelson
	./bench/idle --long --json target/bench/soak.json

release:
	cargo build --release -p kelson

deps:
	@./scripts/deps

kubectl: deps
	@./scripts/kubectl $(TOOLS)

.PHONY: help up down demo demo-images test check chaos mutants conformance fresh bench soak release deps kubectl test-v2
