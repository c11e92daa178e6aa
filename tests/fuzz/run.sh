#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while, on as many cores as there are.
#
#   tests/fuzz/run.sh                              every target for 10 seconds
#   tests/fuzz/run.sh --seconds 300 startup        one target for longer
#   tests/fuzz/run.sh --keep --seconds 300 startup and put what reaches new code into the corpus
#
# Needs Rust (a stable one is enough) and a C++ compiler for libFuzzer. Starts from tests/fuzz/corpus/, which it changes
# only with --keep. A broken property ends it with 1; the input is then in target/fuzz/crashes/.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
}

all=(backend config frontend headers notifications options resets resolvers startup tenants token)
seconds=10
keep=no
targets=()
while [ $# -gt 0 ]; do
    case "$1" in
        --seconds)
            [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || usage
            seconds=$2
            shift
            ;;
        --keep) keep=yes ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || usage
            targets+=("$1")
            ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")

for tool in cargo c++; do
    command -v $tool >/dev/null || {
        echo "tests/fuzz/run.sh: $tool is missing: install Rust and a C++ compiler (g++)" >&2
        exit 1
    }
done

here=$PWD/tests/fuzz
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
crashes=$out/crashes
logs=$out/logs
mkdir -p "$crashes" "$logs"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The programs would outlive this script otherwise.
trap 'kill $(jobs -p) 2>/dev/null || true; exit 130' INT TERM

# Counters at every edge, which libFuzzer reads to learn that an input reached new code: what cargo-fuzz passes, too.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
)
echo "building"
# With --target, build scripts and macros are not instrumented.
RUSTFLAGS="${coverage[*]}" cargo build --quiet --release --target "$host" --target-dir "$out" \
    --manifest-path "$here/libfuzzer/Cargo.toml"

# fuzz TARGET: prints one line, and what broke.
fuzz() {
    local target=$1 program="$out/$host/release/$1" log="$logs/$1.log" status=0 input
    mkdir -p "$work/$target/new" "$work/$target/seeds"
    cp "$here/corpus/$target"/* "$work/$target/seeds/"
    # The first directory takes what is found.
    "$program" "$work/$target/new" "$work/$target/seeds" -max_total_time="$seconds" -max_len=1024 -timeout=10 \
        -rss_limit_mb=1024 -artifact_prefix="$work/$target/" -print_final_stats=1 >"$log" 2>&1 &
    local fuzzer=$!
    # shellcheck disable=SC2064 # the process of now
    trap "kill $fuzzer; exit 130" TERM
    wait $fuzzer || status=$?
    if [ "$status" = 0 ]; then
        printf 'ok    %-8s %10d executions  %5d edges  %4d new inputs\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" \
            "$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
            "$(find "$work/$target/new" -type f | wc -l)"
        [ "$keep" = no ] || keep_new "$target" "$program"
        return 0
    fi
    printf 'FAIL  %-8s all of it in %s\n' "$target" "$log"
    sed -n '/panicked at/,/^note:/p; /^SUMMARY/p' "$log" | head -n 12 | sed 's/^/      /'
    for input in "$work/$target"/*-*; do
        [ -f "$input" ] || continue
        cp "$input" "$crashes/$target-${input##*/}"
        echo "      again: $program $crashes/$target-${input##*/}"
    done
    return 1
}

# Puts into the corpus what reaches code that it does not reach yet: by edges, not by how often each was taken, which
# would bring in hundreds.
keep_new() {
    local target=$1 program=$2 input name
    mkdir "$work/$target/kept"
    cp "$here/corpus/$target"/* "$work/$target/kept/"
    "$program" -set_cover_merge=1 -use_counters=0 -max_len=1024 "$work/$target/kept" "$work/$target/new" >>"$logs/$target.log" 2>&1
    for input in "$work/$target/kept"/*; do
        name=${input##*/}
        [ -e "$here/corpus/$target/$name" ] || cp "$input" "$here/corpus/$target/found-${name:0:12}"
    done
}

echo "${#targets[@]} targets, $seconds s each"
cores=$(nproc 2>/dev/null || echo 2)
running=0
passed=0
failed=0
count() { if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }
for target in "${targets[@]}"; do
    [ "$running" -lt "$cores" ] || { count wait -n && running=$((running - 1)); }
    fuzz "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    count wait -n
    running=$((running - 1))
done

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
