#!/usr/bin/env bash
# Fuzzes every target, or one: scripts/fuzz.sh [SECONDS [TARGET]]
# Works on stable Rust: coverage feedback without a sanitizer, which safe code does not need.
# The seeds in testdata/fuzz/TARGET are read; what is found meanwhile goes to target/fuzz/corpus and is read again next time.
# COLDFIT_FUZZ_SEED chooses another random sequence.
# COLDFIT_FUZZ_RUNS=N is the test run: N inputs a target at most, from the seeds alone, in the same random sequence each time,
# so that a change is judged by what it changes and not by luck. Long runs are for finding.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
targets=$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' crates/fuzz/Cargo.toml)
[[ -z ${2:-} ]] || targets=$2
host=$(rustc -vV | sed -n 's/^host: //p')
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz

export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=yes"
RUSTFLAGS=$(echo $RUSTFLAGS)
for target in $targets; do
    bins+=(--bin "$target")
done
# With an explicit --target the flags stay away from build scripts and procedural macros.
cargo build --release --manifest-path crates/fuzz/Cargo.toml --target "$host" --target-dir "$work" "${bins[@]}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in $targets; do
    corpus=$work/corpus/$target
    runs=-1
    if [[ -n ${COLDFIT_FUZZ_RUNS:-} ]]; then
        corpus=$scratch/$target
        runs=$COLDFIT_FUZZ_RUNS
    fi
    mkdir -p "$corpus" "$work/found/$target" "testdata/fuzz/$target"
    echo "fuzz: $target for $seconds s"
    "$work/$host/release/$target" "$corpus" "testdata/fuzz/$target" -artifact_prefix="$work/found/$target/" \
        -seed="${COLDFIT_FUZZ_SEED:-1}" -runs="$runs" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512 \
        -verbosity=0 -print_final_stats=1 2>&1 | grep -v '^$' || { echo "fuzz: $target failed; see $work/found" >&2; exit 1; }
done
