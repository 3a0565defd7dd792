#!/usr/bin/env bash
# Every check and test. CI runs this and nothing else; images and boot outcomes are kept in
# ${COLDFIT_CACHE:-~/.cache/coldfit}, so a second run is much shorter than the first.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh

step() {
    echo "== $* (at ${SECONDS} s)"
    "$@"
}

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --workspace --no-deps --quiet
step cargo run --locked --quiet -p coldfit-testkit --bin coldfit-lab -- licences
step cargo run --locked --quiet -p coldfit-testkit --bin coldfit-lab -- build all
step cargo test --locked --workspace --exclude coldfit
# The acceptance tests share one QEMU and big images: one after the other.
step cargo test --locked -p coldfit -- --test-threads=1
COLDFIT_FUZZ_RUNS=${COLDFIT_FUZZ_RUNS:-30000} step bash scripts/fuzz.sh "${COLDFIT_FUZZ_SECONDS:-10}"
echo "== all of it passed in ${SECONDS} s"
