# make cluster    build, then boot three primaries and three replicas on 127.0.0.1:7000 to 7005
# make stop       stop that cluster
# make test       everything that CI runs
# make install    programs into $(PREFIX)/bin that need neither Swift, jemalloc nor Lua on their host
# make help       the rest
#
# A fresh Debian with a Swift toolchain is enough: missing Debian packages are installed first (with sudo unless root).

PREFIX ?= /usr/local
CLUSTER_CONFIG ?= cluster-configs/3-primaries-3-replicas.conf
CLUSTER_DIR ?= run/cluster-7000

SWIFT ?= swift
BUILD := .build
RELEASE := $(BUILD)/release
PROGRAMS := martlet-server martlet

# Swift's runtime linked statically, jemalloc as one object: see Package.swift.
JEMALLOC_OBJECT := $(CURDIR)/$(BUILD)/jemalloc.o
RELEASE_BUILD := MARTLET_JEMALLOC_OBJECT=$(JEMALLOC_OBJECT) $(SWIFT) build -c release --static-swift-stdlib

BUILD_PACKAGES := libjemalloc-dev liblua5.1-0-dev libssl-dev pkg-config binutils redis-tools
TEST_PACKAGES := $(BUILD_PACKAGES) redis-server redis-tools tcl python3 python3-venv procps valgrind
# What the Swift toolchain itself needs beside it on Debian.
TOOLCHAIN_PACKAGES := g++ libc6-dev

.PHONY: help cluster stop status build build-packages test test-packages check-swift unit-tests \
	integration-tests redis-suite simulator install uninstall format lint clean bench

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "make build | status | unit-tests | integration-tests | redis-suite | bench | format | lint | uninstall | clean"

cluster: build
	$(RELEASE)/martlet create-cluster start --config $(CLUSTER_CONFIG) --dir $(CLUSTER_DIR)
	@echo "    stop:     make stop   (or the line above)"

stop:
	@if [ -x $(RELEASE)/martlet ]; then $(RELEASE)/martlet create-cluster stop --dir $(CLUSTER_DIR); \
	else echo "Nothing was built here, so no cluster was started from here."; fi

status:
	$(RELEASE)/martlet create-cluster status --dir $(CLUSTER_DIR)

build: build-packages check-swift $(JEMALLOC_OBJECT)
	@for program in $(PROGRAMS); do \
		echo "swift build -c release --product $$program"; \
		$(RELEASE_BUILD) --product $$program || exit 1; \
	done

$(JEMALLOC_OBJECT): | build-packages
	@mkdir -p $(BUILD)
	ld -r --whole-archive "$$(pkg-config --variable=libdir jemalloc)/libjemalloc_pic.a" -o $@

# Speed beside the Redis and Valkey servers that are installed, into Benchmarks/RESULTS.md: about 40 minutes, and nothing else
# should run. SERVERS="valkey=/path/valkey-server" for others, BENCH=--quick for a first look.
bench: build test-packages
	Benchmarks/compare --write $(if $(SERVERS),--servers $(SERVERS)) $(BENCH)
	Benchmarks/instructions --write --servers martlet=$(RELEASE)/martlet-server redis-server valkey-server $(SERVERS)

# Not installed: for tests and for developers.
simulator: build-packages check-swift $(JEMALLOC_OBJECT)
	$(RELEASE_BUILD) --product martlet-simulator

check-swift:
	@command -v $(SWIFT) >/dev/null || { echo "No swift in PATH: install Swift 6.2 or later, https://swift.org/install"; exit 1; }

build-packages:
	@.ci/install-packages $(BUILD_PACKAGES) $(TOOLCHAIN_PACKAGES)

test-packages:
	@.ci/install-packages $(TEST_PACKAGES) $(TOOLCHAIN_PACKAGES)

# The whole: what .ci/run calls. Each part prints its own counts; the last line adds them up.
test: test-packages check-swift
	.ci/test

unit-tests: build-packages check-swift
	.ci/test unit

integration-tests: test-packages check-swift
	.ci/test integration

redis-suite: test-packages check-swift
	.ci/test redis-suite

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/martlet/cluster-configs
	@for program in $(PROGRAMS); do \
		echo "install -s $$program $(DESTDIR)$(PREFIX)/bin"; \
		install -s -m 755 $(RELEASE)/$$program $(DESTDIR)$(PREFIX)/bin/ || exit 1; \
		if ldd $(DESTDIR)$(PREFIX)/bin/$$program | grep -E 'swift|jemalloc|lua|not found'; then \
			echo "$$program still needs the libraries above"; exit 1; \
		fi; \
	done
	install -m 644 cluster-configs/*.conf $(DESTDIR)$(PREFIX)/share/martlet/cluster-configs/

uninstall:
	cd $(DESTDIR)$(PREFIX)/bin && rm -f $(PROGRAMS)
	rm -rf $(DESTDIR)$(PREFIX)/share/martlet

format:
	$(SWIFT) format format --in-place --parallel --recursive Sources Tests Package.swift

lint:
	$(SWIFT) format lint --strict --parallel --recursive Sources Tests Package.swift

clean: stop
	rm -rf $(BUILD)
