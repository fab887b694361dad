# GNU make. `make help` lists what there is; everything runs from a fresh clone.

# One profile for everything: llama.cpp is compiled once.
CARGO ?= cargo
RELEASE := --release --locked
# The package's, Debian revision and all.
VERSION = $(shell sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)

.DEFAULT_GOAL := help
.PHONY: help setup build demo run models test test-models test-chat test-llama-server test-kernels fuzz check doc deb deb-arm64 boot-test piuparts test-vm test-arm64-vm test-home-assistant test-home-assistant-real test-home-eval bench clean install-tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install what building needs (Debian; only what is missing)
	@packaging/setup-host.sh build

build: setup ## build daemon, engine and client
	$(CARGO) build $(RELEASE) --workspace --bins

# Without hearthctl, which the demo does not use; by --workspace, so that what is compiled
# has the features that it has in every other build.
demo: setup ## start it on a private bus, ask it one question each way, stop it
	$(CARGO) build $(RELEASE) --workspace --bin hearthd --bin hearth-engine
	@packaging/demo.sh

run: build ## the same, but it stays until Ctrl-C; BOARD=pi4-poor simulates that board
	@packaging/demo.sh --stay $(BOARD)

# The 1.5B one is for `make test-models` alone.
models: ## fetch the real models that the tests ask (850 MB, once)
	@tests/models/fetch.sh --if-possible smollm2 gemma3 qwen2.5-coder-0.5b >/dev/null

test: ## run the tests of the workspace (others have targets of their own)
	@packaging/setup-host.sh build test
	@$(MAKE) --no-print-directory models
	@tests/clients/setup.sh >/dev/null
	@tests/clients/setup.sh frameworks >/dev/null
	@tests/clients/npm/setup.sh >/dev/null
	@tests/llama-cpp/run.sh --fetch
	$(CARGO) test $(RELEASE) --workspace

# All: they are 2 GB, and the table goes into the documentation. Else names from models.lock.
MODELS ?=
test-models: build ## answer 20 prompts with each real model as llama.cpp does (MODELS="smollm2 gemma3": some only)
	@packaging/setup-host.sh models
	@benches/peers/setup.sh llama-server
	@python3 tests/models/minilm.py >/dev/null || echo "NOT CHECKED: MiniLM: it could not be fetched"
	@python3 tests/models/parity.py $(if $(MODELS),$(MODELS),--out docs/performance.md)
	$(CARGO) test $(RELEASE) --workspace --test daemon llama_server:: -- --nocapture
	@python3 tests/models/pictures.py $(if $(MODELS),,--out docs/performance.md)

test-chat: build ## run llama.cpp's own tests of its chat layer against the one that is built in (three minutes the first time)
	@tests/llama-cpp/run.sh

test-llama-server: build ## run llama.cpp's own tests of its server against Hearthd
	@packaging/setup-host.sh test
	@tests/llama-cpp/server.sh

# Seconds for each target.
TIME ?= 180
fuzz: setup ## fuzz what reads input from outside; TIME=600 for so many seconds each
	@packaging/fuzz.sh $(TIME)

check: install-tools ## formatting, clippy, shellcheck, licences and sources of what is compiled in
	@packaging/setup-host.sh build check
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(RELEASE) --workspace --all-targets -- -D warnings
	$(CARGO) clippy $(RELEASE) --manifest-path fuzz/Cargo.toml --target-dir "$(or $(CARGO_TARGET_DIR),target)" -- -D warnings
	shellcheck $$(git ls-files '*.sh') .ci/run packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm
	packaging/deny.sh

doc: ## build the documentation of the code
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(RELEASE) --workspace --no-deps

deb: build install-tools ## build and check the Debian package
	@packaging/setup-host.sh test package
	packaging/build-deb.sh

test-kernels: deb ## test the engine's table of CPU kernels with all those in the package
	HEARTH_BACKEND_DIR="$(CURDIR)/target/assets/lib" $(CARGO) test $(RELEASE) --workspace --lib llama::variants

deb-arm64: build install-tools ## the same for a Raspberry Pi and other arm64 boards, and run what is in it
	@packaging/setup-cross.sh
	@packaging/setup-host.sh package
	$(CARGO) build $(RELEASE) --workspace --bins --target aarch64-unknown-linux-gnu
	packaging/build-deb.sh --target aarch64-unknown-linux-gnu
	packaging/check-arm64.sh target/debian/hearthd_$(VERSION)_arm64.deb

boot-test: deb ## install the package in booted Debian 12 and 13 containers and use it there (root)
	@command -v mmdebstrap >/dev/null && command -v systemd-nspawn >/dev/null || \
	  apt-get install -qq -y --no-install-recommends mmdebstrap systemd-container
	packaging/boot-test.sh target/debian/hearthd_$(VERSION)_$$(dpkg --print-architecture).deb

piuparts: deb ## have Debian's piuparts install, upgrade, remove and purge the package (root)
	@command -v mmdebstrap >/dev/null && command -v piuparts >/dev/null && command -v dpkg-scanpackages >/dev/null || \
	  apt-get install -qq -y --no-install-recommends mmdebstrap piuparts dpkg-dev
	packaging/piuparts.sh target/debian/hearthd_$(VERSION)_$$(dpkg --print-architecture).deb

test-vm: deb ## install the package in emulated PCs with Debian 13 and 12 and use it there, reboots and all (root; 20 minutes)
	packaging/vm/run.sh target/debian/hearthd_$(VERSION)_amd64.deb
	packaging/vm/run.sh --release bookworm target/debian/hearthd_$(VERSION)_amd64.deb

test-arm64-vm: deb-arm64 ## the same in emulated arm64 boards with Debian 13
	packaging/vm/run.sh target/debian/hearthd_$(VERSION)_arm64.deb

test-home-assistant: build ## test the integration for Home Assistant (fetches Home Assistant the first time)
	@packaging/setup-host.sh home-assistant
	packaging/home-assistant/test.sh

test-home-eval: build ## have a real model control homes and see what becomes of them (MODEL=FILE DATA=DIR: others)
	@packaging/setup-host.sh home-assistant
	packaging/home-assistant/eval.sh "$(or $(MODEL),$(shell tests/models/fetch.sh --if-possible qwen2.5-coder-0.5b))" \
	  $(if $(DATA),--data "$(DATA)") $(if $(LEAST),--least $(LEAST))

test-home-assistant-real: build ## the same in a Home Assistant that runs, from the first page to a light that goes on
	@packaging/setup-host.sh home-assistant test
	packaging/home-assistant/real.sh

bench: build ## run the benchmarks
	$(CARGO) bench --locked --workspace

clean: ## delete everything that was built
	$(CARGO) clean

install-tools: ## install cargo-deb and cargo-deny in the versions used here
	@packaging/install-tools.sh
