# Two commands are enough: `make demo` shows jangbu at work, `make test` checks everything.
# Everything is built with the release profile, so that RocksDB is compiled once.

.DEFAULT_GOAL := help
# How long `make soak` goes on.
MINUTES ?= 60
# What `make bench` measures: see benches/side-by-side/README.md.
ROUNDS ?= 5
SCALE ?= 0.4
LOADS ?= .
PARTS ?= run,compaction,groups,cluster,clients

.PHONY: help demo cluster-demo test soak build fmt lint docs bench bench-page bench-micro deb

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

demo: ## Build, stream 336,776 rows through a node that is killed half-way, check them; groups on a bus, one member killed
	@scripts/demo

cluster-demo: ## The same with three nodes, of which a leader is killed
	@scripts/demo cluster_demo

test: ## Install what is missing and run every check; see scripts/test
	@scripts/test

soak: ## The long versions of the crash tests; MINUTES=60 altogether
	@scripts/soak $(MINUTES)

build: ## Build target/release/jangbu
	@scripts/install-deps build
	@. scripts/rust.sh && cargo build --release --locked -p jangbu-tools

deb: build ## Build a Debian package of it in target/debian, with a service, manual pages and completions
	@scripts/deb

fmt: ## Format the code
	@. scripts/rust.sh && cargo fmt --all

lint: ## Formatting and clippy, warnings denied
	@. scripts/rust.sh && cargo fmt --all --check && \
	  cargo clippy --release --workspace --all-targets --locked -- -D warnings

docs: ## Documentation of the code, warnings denied, and the checks of the pages
	@. scripts/rust.sh && RUSTDOCFLAGS="-D warnings" \
	  cargo doc --release --workspace --no-deps --document-private-items --locked
	@scripts/check-docs

bench: build ## Measure jangbu beside Kafka and NATS, write docs/benchmarks.md: hours; ROUNDS=1 SCALE=0.05 is short
	@benches/side-by-side/bench.py --jangbu "$${CARGO_TARGET_DIR:-target}/release/jangbu" \
	  --rounds $(ROUNDS) --scale $(SCALE) --parts '$(PARTS)' --loads '$(LOADS)'

bench-page: ## Write docs/benchmarks.md and its charts again, from docs/charts/raw.jsonl
	@benches/side-by-side/page.py docs/charts/raw.jsonl docs/benchmarks.md

bench-micro: ## Micro benchmarks of the engine
	@. scripts/rust.sh && cargo bench --profile release --locked -p jangbu-benches
