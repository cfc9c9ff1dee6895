# The interface to the project. `make run` and `make test` work on a fresh
# Debian 12 machine with Go; `make help` lists the rest.

SHELL := /bin/bash
GO ?= go
OUT ?= out/dark-glasses
FUZZTIME ?= 1m
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# The CPU executor multiplies matrices with OpenBLAS where it links, else with
# gonum's own code. Asked when a recipe runs, since setup may install it.
OPENBLAS = $(shell echo 'int main(void){return 0;}' | gcc -x c - -lopenblas -o /dev/null 2>/dev/null && echo yes)
BUILD = $(if $(OPENBLAS),CGO_LDFLAGS=-lopenblas) $(GO)
TAGS = $(if $(OPENBLAS),-tags openblas)

# Packages that also run in a browser or at the edge; architecture_test.go holds
# what they may reach.
PORTABLE := ./sampler ./shaders ./graph ./gpu ./graph/cpu ./graph/cpu/wide ./graph/webgpu ./sdo ./sdo/mixture ./model ./model/builtin ./model/placeholder ./model/tokenizer ./train ./train/avatars ./train/fashion ./recipes/spelling ./recipes ./engine ./demo/studio ./wasm/browser ./wasm/edge ./wasm/worker

# Setup puts a newer Node here where the system's is too old.
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

# What the edge worker is made of beside the page, and what would be uploaded.
EDGE := wasm/worker/build/edge.wasm
EDGE_GLUE := wasm/worker/build/wasm_exec.js
EDGE_MODULES := wasm/worker/node_modules/.package-lock.json
BUNDLE := wasm/worker/build/bundle/worker.js

# Wrangler asks nothing, tells nobody and writes only where git does not look.
WRANGLER := cd wasm/worker && CI=1 WRANGLER_SEND_METRICS=false WRANGLER_HIDE_BANNER=true CLOUDFLARE_CF_FETCH_ENABLED=false \
	XDG_CONFIG_HOME=$(CURDIR)/wasm/worker/.wrangler/config node_modules/.bin/wrangler

.PHONY: run demo edge test build site worker setup check wasm size ops support memory bench fuzz golden status picture clean help FORCE

run: build ## set up, build, and put dark glasses on sixteen people
	bin/sdo steer dark-glasses --out $(OUT)

demo: site build ## build the page and bin/sdo with it, and serve it on this machine
	bin/sdo demo

edge: worker wasm/worker/.dev.vars ## build the edge worker and run it on this machine: http://127.0.0.1:8787
	$(WRANGLER) dev --ip 127.0.0.1 --port 8787

# A deployment's secrets are wrangler's to keep; on this machine they are here.
wasm/worker/.dev.vars:
	@for name in SDO_KEY SDO_SECRET; do echo "$$name=$$(head -c 24 /dev/urandom | base64)"; done > $@
	@echo "made up a key and a secret for this machine: $@"

# What keeps time, and what needs the machine to itself, comes last and alone.
test: setup check wasm worker ## set up, then test everything: software Vulkan, workerd and headless Chromium included
	@tools/setup.sh browser
	@$(GO) run ./tools/size
	SDO_REQUIRE_GPU=1 SDO_REQUIRE_BROWSER=1 SDO_REQUIRE_WORKER=1 SDO_LIMITS=default $(BUILD) test $(TAGS) $$($(GO) list ./... | grep -v -e /demo$$ -e /wasm/worker$$)
	CGO_ENABLED=0 $(GO) test ./sdo/... ./sampler/...
	SDO_REQUIRE_WORKER=1 $(GO) test -timeout 30m ./wasm/worker
	SDO_REQUIRE_BROWSER=1 $(GO) test -timeout 60m ./demo

build: setup ## build bin/sdo, with the page if it was built
	$(BUILD) build $(TAGS) -ldflags '-X main.version=$(VERSION)' -o bin/sdo ./native

site: $(SITE) ## build the page into demo/dist, ready for any static host

$(SITE): $(MODULE) $(GLUE) $(WEIGHTS) $(PAGE) $(NODE_MODULES)
	cd demo && npm run --silent build -- --logLevel warn
	node tools/site/compress.mjs demo/dist demo/.cache/compressed

# Go knows what has changed. A module that came out the same keeps its time, so
# that nothing after it is made again.
$(MODULE): PROGRAM := ./wasm/browser
$(EDGE): PROGRAM := ./wasm/worker
$(MODULE) $(EDGE): FORCE
	@mkdir -p $(@D) bin
	GOOS=js GOARCH=wasm $(GO) build -trimpath $(SMALL) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/$(@F) $(PROGRAM)
	@cmp -s bin/$(@F) $@ || cp bin/$(@F) $@

# The glue must be that of the toolchain that built the module.
$(GLUE) $(EDGE_GLUE): FORCE
	@mkdir -p $(@D)
	@cmp -s "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" $@ || cp "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" $@

demo/public/models/%: model/builtin/%
	@mkdir -p $(@D)
	@cp $< $@

$(NODE_MODULES): demo/package-lock.json
	@tools/setup.sh site
	cd demo && npm ci --no-audit --no-fund
	@touch $@

worker: $(BUNDLE) ## build the edge worker and the page it serves, ready for wrangler deploy

$(BUNDLE): $(SITE) $(EDGE) $(EDGE_GLUE) $(EDGE_MODULES) wasm/worker/wrangler.jsonc $(wildcard wasm/worker/*.mjs model/builtin/*/*.safetensors)
	@tools/setup.sh worker
	@rm -rf $(@D)
	$(WRANGLER) deploy --dry-run --outdir build/bundle

$(EDGE_MODULES): wasm/worker/package-lock.json
	@tools/setup.sh worker
	cd wasm/worker && npm ci --no-audit --no-fund
	@touch $@

size: worker ## bytes of the page's download and of the worker, as they are and compressed
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

support: setup ## write docs/models.md's table of architectures, measured on the CPU and this machine's adapter
	$(BUILD) run $(TAGS) ./tools/support -w docs/models.md

memory: ## write docs/models.md's table of what runs of Stable Diffusion 1.5 take, by their plans
	$(GO) run ./tools/memory -w docs/models.md

bench: build ## memory and time of an update; JSON into bench/
	@mkdir -p bench
	bin/sdo bench memory --json > bench/memory.json
	bin/sdo bench update --json > bench/update.json
	@echo "bench/memory.json bench/update.json"

# One after the other: each uses every core.
fuzz: ## every fuzz target for FUZZTIME, by default 1m
	@grep -ro '^func Fuzz[A-Za-z0-9]*' --include='*_test.go' --exclude-dir=node_modules . | sort | while IFS=: read -r file target; do \
		echo "$${target#func } of $$(dirname $$file)"; \
		$(BUILD) test $(TAGS) $$(dirname $$file) -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

golden: ## make the golden files again; needs Python with torch, diffusers, transformers and peft
	python3 tools/golden/unet2d.py
	python3 tools/golden/unet2d_condition.py
	python3 tools/golden/autoencoder.py
	python3 tools/golden/clip.py
	python3 tools/golden/lora.py
	python3 tools/golden/lora_names.py
	python3 tools/golden/torch_files.py
	python3 tools/golden/ddim.py > sampler/testdata/ddim.json.new && mv sampler/testdata/ddim.json.new sampler/testdata/ddim.json
	python3 tools/golden/schedulers.py > sampler/testdata/schedulers.json.new && mv sampler/testdata/schedulers.json.new sampler/testdata/schedulers.json

status: setup ## write the README's status table from the tree
	$(BUILD) run $(TAGS) ./tools/status -w README.md

picture: run ## make the README's picture from a fresh run
	$(GO) run ./tools/picture $(OUT) docs/images/dark-glasses.png

clean: ## remove what make made
	rm -rf bin out bench demo/.cache demo/node_modules demo/public/models $(MODULE) $(GLUE)
	rm -rf wasm/worker/build wasm/worker/node_modules wasm/worker/.wrangler
	find demo/dist -mindepth 1 ! -name .gitkeep -delete

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile
