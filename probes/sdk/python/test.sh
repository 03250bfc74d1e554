#!/usr/bin/env bash
# Builds the wheel, installs it with the real frameworks into a virtual environment under target/, and runs all tests.
# Arguments go to pytest. PERFWATCH_BIN names the agent; without it the one of this workspace is built.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
environment=$CARGO_TARGET_DIR/python

if [ -z "${PERFWATCH_BIN:-}" ]; then
    (cd "$root" && cargo build --locked --package perfwatch)
    export PERFWATCH_BIN=$CARGO_TARGET_DIR/debug/perfwatch
fi

python3 -m venv "$environment"
pip() { "$environment/bin/pip" --quiet --disable-pip-version-check "$@"; }
pip install -r tests/requirements.txt
# Large ones, which have no wheels for some machines. Their tests run where they install.
for needs in tests/frameworks/*.txt; do
    if ! why=$(pip install -r "$needs" 2>&1); then
        echo "skipped: $(basename "$needs" .txt) does not install here ($(tail -n 1 <<< "$why"))"
    fi
done

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
rm -rf "$environment/wheels"
# `--profile dev`: what is tested here is behaviour; a release is built with `maturin build --release`.
"$environment/bin/maturin" build --quiet --locked --profile dev --interpreter "$environment/bin/python" --out "$environment/wheels"
pip install --force-reinstall --no-deps --no-index "$environment"/wheels/perfwatch_sdk-*-abi3-*.whl
"$environment/bin/python" -m mypy --strict python/perfwatch
# The type stubs say what is there, and all of it.
"$environment/bin/python" -m mypy.stubtest perfwatch._native
"$environment/bin/python" -m pytest "$@"
