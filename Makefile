# overlayd: what a developer runs. CI calls "make test".
#
# Everything it makes is below bin/ and the cache folder of the end-to-end
# machines (OVERLAYD_CACHE, default ~/.cache/overlayd).

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.buildVersion=$(VERSION)
# Tools are pinned in a module of their own: the product's go.mod stays the product's.
TOOL    := $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 30s
# Machines that run at a time in the end-to-end tests.
MACHINES ?= 2

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build deb package man test test-unit test-e2e test-package demo bench setup fuzz golden picture lint fmt \
	tidy release-check clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/overlayd, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/overlayd ./cmd/overlayd

deb: ## build the Debian packages for amd64 and arm64, in bin/ (needs debhelper, which it installs)
	@test/setup.sh deb
	packaging/deb/build.sh amd64 arm64

# The package for this computer, which the demo and the end-to-end tests install.
package:
	@packaging/deb/build.sh $$($(GO) env GOARCH)

man: ## write the man pages to bin/man
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(GO) run -tags man -ldflags '$(LDFLAGS)' ./cmd/overlayd bin/man

test: setup lint test-unit test-package test-e2e ## the one command: lint, unit, race, package, root and end-to-end tests

test-unit: ## unit, golden, property, fuzz seed and root tests, with the race detector
	@echo '== unit tests (race detector, shuffled; as root also those with real mounts)'
	$(GO) test -race -shuffle=on -timeout 20m ./...

# In its own folder, go test shows progress at once, and caches nothing.
test-package: ## build the package twice; the same bytes, and nothing that lintian minds
	@echo '== the Debian package'
	packaging/deb/check.sh

test-e2e: package ## install the package on Debian 12 and 13 and use it (root; RUN=REGEXP picks tests)
	@echo '== end-to-end tests on Debian 12 and 13'
	cd test/machine && $(GO) test -tags e2e -timeout 10m -parallel $(MACHINES)
	cd test/e2e && $(GO) test -tags e2e -timeout 30m -parallel $(MACHINES) -run '$(RUN)'
	cd test/fleet && $(GO) test -tags e2e -timeout 20m -run '$(RUN)'

demo: ## install the package on a disposable Debian and play the quickstart (root)
	@test/setup.sh demo
	@packaging/deb/build.sh $$($(GO) env GOARCH)
	$(GO) run ./test/demo

# Static, for it copies itself into the machines.
bench: ## measure on disposable Debians what overlayd takes (root, 40 minutes; BENCH=FLAGS)
	@test/setup.sh demo
	@packaging/deb/build.sh $$($(GO) env GOARCH)
	CGO_ENABLED=0 $(GO) run ./test/bench -memory 10000 $(BENCH)

setup: ## install what the end-to-end tests and the demo need, by apt-get
	@test/setup.sh

fuzz: ## fuzz each fuzz test for FUZZTIME (30s)
	@grep -rn --include='*_test.go' '^func Fuzz' . | sed 's,^\./\(.*\)/[^/]*_test\.go:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\).*,\1 \2,' | \
	while read -r dir name; do \
		echo "== $$dir $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir" || exit 1; \
	done

golden: ## rewrite the golden files and show what changed
	$(GO) test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n1 dirname | sort -u) -update
	git --no-pager diff --stat -- '*testdata*'

picture: build ## draw the examples for the README (needs Graphviz)
	bin/overlayd graph --var slots=3 examples >docs/examples.dot
	dot -Tsvg -o docs/examples.svg docs/examples.dot

lint: ## vet, staticcheck, golangci-lint, gofumpt, go mod tidy; the first run builds the tools (2 minutes)
	@echo '== vet'
	$(GO) vet ./...
	$(GO) vet -tags e2e ./test/...
	$(GO) vet -tags man ./cmd/...
	@echo '== staticcheck'
	$(TOOL) staticcheck -tags e2e ./...
	@echo '== golangci-lint'
	$(TOOL) golangci-lint run
	@echo '== gofumpt'
	@unformatted=$$($(TOOL) gofumpt -l .) && test -z "$$unformatted" || \
		{ echo "not formatted; run make fmt:"; echo "$$unformatted"; exit 1; }
	@echo '== go mod tidy'
	$(GO) mod tidy -diff

fmt: ## format all Go files
	$(TOOL) gofumpt -w .

tidy: ## tidy both go.mod files
	$(GO) mod tidy
	cd tools && $(GO) mod tidy

release-check: ## all that must hold before a release is tagged (an hour)
	test/release-check.sh

clean: ## remove bin/
	rm -rf bin
	@echo "The Debian trees in $${OVERLAYD_CACHE:-~/.cache/overlayd} stay; remove them by hand when you want new ones."
