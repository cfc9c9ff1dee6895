# The interface to the project. `make run` and `make test` work on a fresh
# Debian 12 machine with Go; `make help` lists the rest.

SHELL := /bin/bash
GO ?= go
OUT ?= out/dark-glasses
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# The CPU executor multiplies matrices with OpenBLAS where it links, else with
# gonum's own code. Asked when a recipe runs, since setup may install it.
OPENBLAS = $(shell echo 'int main(void){return 0;}' | gcc -x c - -lopenblas -o /dev/null 2>/dev/null && echo yes)
BUILD = $(if $(OPENBLAS),CGO_LDFLAGS=-lopenblas) $(GO)
TAGS = $(if $(OPENBLAS),-tags openblas)

# Packages that also run in a browser; architecture_test.go holds what they may
# reach.
PORTABLE := ./sampler ./shaders ./graph ./gpu ./graph/cpu ./graph/webgpu ./sdo ./sdo/mixture ./model ./model/builtin ./train ./train/avatars ./train/fashion ./recipes ./engine

.PHONY: run test build setup check wasm ops bench golden status picture clean help

run: build ## set up, build, and put dark glasses on sixteen people
	bin/sdo steer dark-glasses --out $(OUT)

test: setup check wasm ## set up, then test everything, software Vulkan included
	SDO_REQUIRE_GPU=1 SDO_LIMITS=default $(BUILD) test $(TAGS) ./...
	CGO_ENABLED=0 $(GO) test ./sdo/... ./sampler/...

build: setup ## build bin/sdo
	$(BUILD) build $(TAGS) -ldflags '-X main.version=$(VERSION)' -o bin/sdo ./native

setup: ## install what is missing: C compiler, Vulkan loader, Mesa's software driver, OpenBLAS
	@tools/setup.sh

check: setup ## formatting and vet
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w $$unformatted"; exit 1; }
	$(BUILD) vet $(TAGS) ./...

wasm: ## vet and build every portable package for the browser
	GOOS=js GOARCH=wasm $(GO) vet $(PORTABLE)
	GOOS=js GOARCH=wasm $(GO) build $(PORTABLE)

ops: setup ## the table of operations: which executor has which kernel
	$(BUILD) run $(TAGS) ./tools/status

bench: build ## memory and time of an update; JSON into bench/
	@mkdir -p bench
	bin/sdo bench memory --json > bench/memory.json
	bin/sdo bench update --json > bench/update.json
	@echo "bench/memory.json bench/update.json"

golden: ## make the golden files again; needs Python with torch, diffusers and peft
	python3 tools/golden/unet2d.py
	python3 tools/golden/lora.py
	python3 tools/golden/ddim.py > sampler/testdata/ddim.json.new && mv sampler/testdata/ddim.json.new sampler/testdata/ddim.json
	python3 tools/golden/schedulers.py > sampler/testdata/schedulers.json.new && mv sampler/testdata/schedulers.json.new sampler/testdata/schedulers.json

status: setup ## write the README's status table from the tree
	$(BUILD) run $(TAGS) ./tools/status -w README.md

picture: run ## make the README's picture from a fresh run
	$(GO) run ./tools/picture $(OUT) docs/images/dark-glasses.png

clean: ## remove what make made
	rm -rf bin out bench

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile
