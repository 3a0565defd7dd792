# The menu; every entry is also a plain command in the README or in scripts/.

default:
    @just --list

# What to run before each commit.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace --lib --bins

# Everything that CI runs.
test:
    bash scripts/test.sh

# The main job on a real image that it makes itself.
example:
    bash scripts/example.sh

# Side-by-side timings for docs/performance.md.
bench:
    cargo bench

# Coverage-guided fuzzing of one target for SECONDS.
fuzz TARGET SECONDS="60":
    bash scripts/fuzz.sh {{SECONDS}} {{TARGET}}
