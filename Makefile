# Everything that CI does, by one name each. `make ci` never writes; `make fix` does.

CARGO ?= cargo

.PHONY: help test model ci fix fmt clippy doc deny proto demo sim chaos instructions

help:                                ## this list
	@sed -n 's/^\([a-z]*\):.*##/  \1\t/p' $(MAKEFILE_LIST)

test:                                ## everything that is tested
	$(CARGO) test --workspace --locked

model:                               ## all states of small groups, with their counts
	$(CARGO) test --workspace --locked --test model -- --include-ignored --nocapture

ci: fmt clippy doc test model deny instructions demo sim  ## what CI runs

fix:                                 ## format, and apply what clippy can repair itself
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

deny:                                ## licences, duplicates, sources (needs cargo-deny; CI installs it)
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --locked check licenses bans sources; \
	elif [ -n "$$CI" ]; then echo 'cargo-deny is missing in CI'; exit 1; \
	else echo 'skipped: cargo-deny is not installed'; fi

proto:                               ## generate the protobuf code anew
	UPDATE_PROTO=1 $(CARGO) test -p roundelay --test generated

demo:                                ## five real processes, all three protocols, checked as they run
	$(CARGO) run --release --locked -- demo --for 10s --output json

sim:                                 ## ten thousand runs through faults, each the same for its seed
	$(CARGO) run --release --locked --quiet -- sim sweep --seeds 0..10000
	@hash() { $(CARGO) run --release --locked --quiet -- sim sweep --seeds 0..500 --jobs $$1 \
	  --output json | sed -n 's/.*"hash":"\([0-9a-f]*\)".*/\1/p'; }; \
	one=$$(hash 1); two=$$(hash 2); \
	if [ -n "$$one" ] && [ "$$one" = "$$two" ]; then echo "500 seeds twice: $$one"; \
	else echo "500 seeds twice, and not the same: $$one $$two"; exit 1; fi

chaos:                               ## five real processes through five minutes of trouble, another seed each time
	CHAOS_SECONDS=300 CHAOS_SEED=$${CHAOS_SEED:-$$(date +%s)} \
	  $(CARGO) test -p roundelay-cli --locked --test chaos -- --nocapture

instructions:                        ## counts the instructions of the core's paths (needs valgrind)
	@if command -v valgrind >/dev/null; then \
	  $(CARGO) bench -p roundelay-core --bench instructions --locked --quiet; \
	elif [ -n "$$CI" ]; then echo 'valgrind is missing in CI'; exit 1; \
	else echo 'skipped: valgrind is not installed'; fi
