# mailsyncd: what a developer runs. `make help` lists it.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
TEST_FLAGS  ?= -race -shuffle=on -timeout 14m

.PHONY: help build demo test lint bench deps fuzz clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

build: ## the static binary, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/mailsyncd ./cmd/mailsyncd

demo: build ## the whole job with nothing to set up
	./bin/mailsyncd demo

deps: ## the servers the tests talk to, from Debian's packages
	@internal/testutil/install-servers

lint: ## gofmt, vet, staticcheck
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

test: deps lint ## everything, as CI runs it
	$(GO) test $(TEST_FLAGS) ./...
	@echo "24,000 random lives, without the race detector (which plays 1,100 of them):"
	$(GO) test -count 1 ./internal/proptest

bench: deps ## speed and memory, each against a floor in the same run
	$(GO) test -run '^$$' -bench . -timeout 60m ./...

fuzz: ## every fuzz target for FUZZTIME (default 20s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-20s} $$pkg; \
	  done; \
	done

clean: ## remove what the build made
	rm -rf bin
