# Thin: the work is in the programs. Names and meanings of the targets: docs/running.md.

# demo and bench measure, so they are optimised; test is not, so that it builds fast.
PROFILE ?= release
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

export PATH := $(HOME)/.cargo/bin:$(PATH)
# Queries are checked against the committed cache: no database is needed to compile.
export SQLX_OFFLINE := true
unexport DATABASE_URL

.PHONY: demo test torture bench build fmt lint doc deny fuzz sqlx sqlx-check clean cargo

# SERVE=1 leaves it running until Ctrl-C. DEMO_FLAGS: see `ebb-tests demo --help`.
demo: build
	$(BUILT)/ebb-tests demo $(if $(filter 1,$(SERVE)),--serve) $(DEMO_FLAGS)

# Formatting, lints, programs, documentation, then every test there is on a private PostgreSQL.
test: fmt lint doc
	cargo build --workspace --all-targets --locked
	$(TARGET)/debug/ebb-tests tools
	$(TARGET)/debug/ebb-tests test

# Whatever goes wrong, nothing is lost; only builds that are not optimised have named fail points. TORTURE_FLAGS: see
# `ebb-tests torture --help`.
torture: cargo
	cargo build --workspace --bins --locked
	$(TARGET)/debug/ebb-tests torture --out $(TARGET)/torture $(TORTURE_FLAGS)

# A second imagezip does without the SHA instructions, as on a processor that has none.
bench: build
	RUSTFLAGS='--cfg ebb_without_sha_instructions --cfg sha2_backend="soft"' \
	    cargo build -p imagezip --bin imagezip --locked --profile $(PROFILE) --target-dir $(TARGET)/bench/soft
	$(BUILT)/ebb-tests bench --soft $(TARGET)/bench/soft/$(notdir $(BUILT))/imagezip $(BENCH_FLAGS)

build: cargo
	cargo build --workspace --bins --locked --profile $(PROFILE)

fmt: cargo
	cargo fmt --all --check

lint: cargo
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Private items are documented too, so a link to one leads somewhere.
doc: cargo
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --locked --document-private-items

# Built at a pinned version: it is not on a Debian machine.
deny: cargo
	test -x $(TARGET)/tools/bin/cargo-deny || cargo install cargo-deny --version 0.20.2 --locked --root $(TARGET)/tools
	$(TARGET)/tools/bin/cargo-deny check bans licenses sources

# Every fuzz target for so many seconds; what is found ends it with 1, and is in target/fuzz.
FUZZ_SECONDS ?= 60
fuzz: cargo
	@.ci/need-fuzz
	test -x $(TARGET)/tools/bin/cargo-fuzz || cargo install cargo-fuzz --version 0.13.2 --locked --root $(TARGET)/tools
	CARGO_FUZZ=$(abspath $(TARGET))/tools/bin/cargo-fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_TARGETS='$(FUZZ_TARGETS)' \
	    imagezip/fuzz/run $(abspath $(TARGET))/fuzz

# The query cache, made anew: what `query!` finds out from a database that has just our migrations.
sqlx: cargo
	cargo build -p ebb-tests --locked
	rm -rf .sqlx && mkdir .sqlx
	touch boss/db/src/lib.rs boss/src/lib.rs
	SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$(CURDIR)/.sqlx $(TARGET)/debug/ebb-tests pg run --schema migrations -- \
	    cargo check -p boss-db -p boss --all-targets --locked

sqlx-check: cargo
	cargo build -p ebb-tests --locked
	rm -rf $(TARGET)/sqlx && mkdir -p $(TARGET)/sqlx
	touch boss/db/src/lib.rs boss/src/lib.rs
	SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$(abspath $(TARGET))/sqlx $(TARGET)/debug/ebb-tests pg run --schema migrations -- \
	    cargo check -p boss-db -p boss --all-targets --locked
	diff -r .sqlx $(TARGET)/sqlx

clean:
	cargo clean

# A toolchain that can build this, installed where it can be.
cargo:
	@.ci/need-cargo
