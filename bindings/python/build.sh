#!/usr/bin/env bash
# Builds the wheel into target/wheels, checks that it holds what it needs and nothing else, and prints its size.
#
#   bindings/python/build.sh             for this machine's libc, or for macOS
#   bindings/python/build.sh --portable  for Linux with glibc 2.17 or later; fetches ziglang from PyPI
#
# Needs maturin: the one on PATH, else one that is installed into target/maturin.
set -euo pipefail
cd "$(dirname "$0")"

target=${CARGO_TARGET_DIR:-$PWD/../../target}
wheels=$target/wheels
python=/usr/bin/python3
[ -x "$python" ] || python=python3
options=(build --release --out "$wheels")
maturin=$(command -v maturin || true)
packages=('maturin>=1.9,<2')
case "${1:-}" in
    '') ;;
    --portable)
        options+=(--zig --compatibility manylinux2014)
        packages+=(ziglang)
        maturin=
        ;;
    *)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
if [ -z "$maturin" ]; then
    maturin=$target/maturin/bin/maturin
    [ -x "$maturin" ] || "$python" -m venv "$target/maturin"
    "$target/maturin/bin/pip" install -q --disable-pip-version-check "${packages[@]}"
    PATH=$target/maturin/bin:$PATH
fi

rm -f "$wheels"/pgvpd-*.whl
"$maturin" "${options[@]}"
wheel=$(echo "$wheels"/pgvpd-*.whl)

"$python" - "$wheel" <<'CHECK'
import re, sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
expected = [
    *(f"pgvpd/{name}" for name in ("__init__.py", "__main__.py", "_errors.py", "_pgvpd.pyi", "_proxy.py", "_service.py")),
    *(f"pgvpd/{name}" for name in ("_pgvpd.abi3.so", "py.typed", "pytest_plugin.py", "testing.py")),
    *(f"*.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")),
]
found = [
    re.sub(r"^pgvpd-[^/]*\.dist-info", "*.dist-info", name)
    for name in wheel.namelist()
    if not name.endswith("/")
]
wrong = set(found) ^ set(expected)
for name in sorted(wrong):
    print("missing:" if name in expected else "not needed:", name, file=sys.stderr)
for info in wheel.infolist():
    print(f"{info.compress_size:9,} of {info.file_size:10,} bytes  {info.filename}")
sys.exit(bool(wrong))
CHECK
printf '%s: %d bytes\n' "$(basename "$wheel")" "$(stat -c %s "$wheel" 2>/dev/null || stat -f %z "$wheel")"
