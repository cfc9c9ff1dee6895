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
PORTABLE := ./sampler ./shaders ./graph ./gpu ./graph/cpu ./graph/webgpu ./sdo ./sdo/mixture ./model ./model/builtin ./train ./train/avatars ./train/fashion ./recipes ./engine ./demo/studio ./wasm/browser

# Setup puts a newer Node here where the system's is too old for the page.
export PATH := $(CURDIR)/bin/node/node_modules/.bin:$(PATH)

# Functions are inlined only where the time goes: a seventh less to download.
SMALL := -gcflags=all=-l -gcflags=github.com/sdo-go/sdo/graph/cpu=

# What the page is made of. demo/public is copied into demo/dist as it is.
MODULE := demo/public/sdo.wasm
GLUE := demo/public/wasm_exec.js
WEIGHTS := $(patsubst model/builtin/%,demo/public/models/%,$(wildcard model/builtin/*/*.safetensors))
PAGE := $(shell find demo/src demo/public demo/*.json demo/*.ts demo/*.html tools/site -type f 2>/dev/null)
NODE_MODULES := demo/node_modules/.package-lock.json
SITE := demo/dist/manifest.json

.PHONY: run demo test build site setup check wasm size ops bench golden status picture clean help FORCE

run: build ## set up, build, and put dark glasses on sixteen people
	bin/sdo steer dark-glasses --out $(OUT)

demo: site build ## build the page and bin/sdo with it, and serve it on this machine
	bin/sdo demo

test: setup check wasm site ## set up, then test everything, software Vulkan and headless Chromium included
	@tools/setup.sh browser
	SDO_REQUIRE_GPU=1 SDO_REQUIRE_BROWSER=1 SDO_LIMITS=default $(BUILD) test $(TAGS) $$($(GO) list ./... | grep -v /demo$$)
	CGO_ENABLED=0 $(GO) test ./sdo/... ./sampler/...
	SDO_REQUIRE_BROWSER=1 $(GO) test -timeout 60m ./demo

build: setup ## build bin/sdo, with the page if it was built
	$(BUILD) build $(TAGS) -ldflags '-X main.version=$(VERSION)' -o bin/sdo ./native

site: $(SITE) ## build the page into demo/dist, ready for any static host

$(SITE): $(MODULE) $(GLUE) $(WEIGHTS) $(PAGE) $(NODE_MODULES)
	cd demo && npm run --silent build -- --logLevel warn
	node tools/site/compress.mjs demo/dist demo/.cache/compressed

# Go knows what has changed. A module that came out the same keeps its time, so
# that nothing after it is made again.
$(MODULE): FORCE
	@mkdir -p $(@D) demo/.cache
	GOOS=js GOARCH=wasm $(GO) build -trimpath $(SMALL) -ldflags '-s -w -X main.version=$(VERSION)' -o demo/.cache/sdo.wasm ./wasm/browser
	@cmp -s demo/.cache/sdo.wasm $@ || cp demo/.cache/sdo.wasm $@

# The glue must be that of the toolchain that built the module.
$(GLUE): FORCE
	@cmp -s "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" $@ || cp "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" $@

demo/public/models/%: model/builtin/%
	@mkdir -p $(@D)
	@cp $< $@

$(NODE_MODULES): demo/package-lock.json
	@tools/setup.sh site
	cd demo && npm ci --no-audit --no-fund
	@touch $@

size: site ## bytes of the module and of the whole download, as they are and compressed
	@$(GO) run ./tools/size

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
	rm -rf bin out bench demo/.cache demo/node_modules demo/public/models $(MODULE) $(GLUE)
	find demo/dist -mindepth 1 ! -name .gitkeep -delete

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile
