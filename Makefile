# GNU make. `make help` lists what there is; everything runs from a fresh clone.

# One profile for everything: llama.cpp is compiled once.
CARGO ?= cargo
RELEASE := --release --locked

.DEFAULT_GOAL := help
.PHONY: help setup build demo run test check doc deb boot-test bench clean install-tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install what building needs (Debian; only what is missing)
	@packaging/setup-host.sh build

build: setup ## build daemon, engine and client
	$(CARGO) build $(RELEASE) --bins

demo: build ## start it on a private bus, ask it one question each way, stop it
	@packaging/demo.sh

run: build ## the same, but it stays until Ctrl-C; BOARD=pi4-poor simulates that board
	@packaging/demo.sh --stay $(BOARD)

test: ## run all tests
	@packaging/setup-host.sh build test
	@tests/clients/setup.sh >/dev/null
	$(CARGO) test $(RELEASE)

check: install-tools ## formatting, clippy, shellcheck, licences and sources of what is compiled in
	@packaging/setup-host.sh build check
	$(CARGO) fmt --check
	$(CARGO) clippy $(RELEASE) --all-targets -- -D warnings
	shellcheck $$(git ls-files '*.sh') .ci/run packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm
	packaging/deny.sh

doc: ## build the documentation of the code
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(RELEASE) --no-deps

deb: build install-tools ## build and check the Debian package
	@packaging/setup-host.sh test package
	packaging/build-deb.sh

boot-test: deb ## install the package in booted Debian 12 and 13 containers and use it there (root)
	@command -v mmdebstrap >/dev/null && command -v systemd-nspawn >/dev/null || \
	  apt-get install -qq -y --no-install-recommends mmdebstrap systemd-container
	packaging/boot-test.sh target/debian/hearthd_$$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)_$$(dpkg --print-architecture).deb

bench: setup ## run the benchmarks
	$(CARGO) bench --locked

clean: ## delete everything that was built
	$(CARGO) clean

install-tools: ## install cargo-deb and cargo-deny in the versions used here
	@packaging/install-tools.sh
