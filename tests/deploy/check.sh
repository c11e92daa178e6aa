# Checks of the scripts in this directory: one line each, counted; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154

# check NAME COMMAND...: it must succeed; what it said is shown where it does not.
check() {
    local name=$1 said status
    shift
    # A function ends at its first command that fails, which it does not as a condition.
    set +e
    said=$(
        set -e
        "$@" 2>&1
    )
    status=$?
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        tail -n 20 <<<"$said" | sed 's/^/E  /'
    fi
}

# skip NAME REASON
skip() {
    skipped=$((skipped + 1))
    echo "skipped $1: $2"
}

# same EXPECTED COMMAND...: what it prints must be this.
same() {
    local expected=$1 found
    shift
    found=$("$@") || { echo "$* failed, and said: $found"; return 1; }
    [ "$found" = "$expected" ] || { echo "$* said: $found"; echo "expected: $expected"; return 1; }
}

# says PATTERN COMMAND...: it must succeed and print a line that matches.
says() {
    local pattern=$1 found
    shift
    found=$("$@" 2>&1) || { echo "$* failed, and said: $found"; return 1; }
    grep -q -e "$pattern" <<<"$found" || { echo "$* did not say \"$pattern\", but: $found"; return 1; }
}

# refuses PATTERN COMMAND...: it must fail and print a line that matches.
refuses() {
    local pattern=$1 found
    shift
    if found=$("$@" 2>&1); then
        echo "$* succeeded, and said: $found"
        return 1
    fi
    grep -q -e "$pattern" <<<"$found" || { echo "$* did not say \"$pattern\", but: $found"; return 1; }
}

not() { ! "$@"; }

# eventually COMMAND...: again and again until it succeeds; what it said last after a minute.
eventually() {
    local found end=$((SECONDS + 60))
    until found=$("$@" 2>&1); do
        [ $SECONDS -lt $end ] || { echo "$found"; return 1; }
    done
}

# start COMMAND...: runs a program whose output can be read from $output; its process is $started. What is left is ended by end_all.
processes=()
start() {
    exec {output}< <(exec "$@" 2>&1)
    started=$!
    processes+=("$started")
}

# line_of FD PATTERN: reads lines up to one that matches, and prints it.
line_of() {
    local line seen=''
    while IFS= read -r -t 120 -u "$1" line; do
        seen+=$line$'\n'
        if [[ $line =~ $2 ]]; then
            printf '%s\n' "$line"
            return
        fi
    done
    echo "no line with \"$2\" came, but: $seen" >&2
    return 1
}

# end PROCESS [SIGNAL]: ends one that was started, and waits for it.
end() {
    kill -s "${2:-TERM}" "$1" 2>/dev/null || return 0
    timeout 60 tail --pid="$1" -f /dev/null || kill -s KILL "$1"
}

end_all() {
    local process
    for process in "${processes[@]}"; do end "$process" INT; done
}
