#!/usr/bin/env bash
# Make .venv if there is none, and install the project into it, editable, with the pinned versions.
# Usage: tools/venv.sh EXTRA     (cli, dev or check; the Makefile calls this only when something changed)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'make: %s\n' "$@" >&2
    exit 1
}

# The first Python that really runs (a shim on the PATH may not) and is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.14 python3.13 python3.12}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    fail "MageFlow needs Python 3.11 or newer, and none was found." "Name one with: make PYTHON=/path/to/python3.11 ..."
}

# Debian ships Python without ensurepip: then the pip of the system, virtualenv or uv fill in.
make_venv() {
    local python=$1
    rm -rf .venv
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        "$python" -m venv .venv
    elif "$python" -m pip --version >/dev/null 2>&1 && "$python" -c 'import venv' >/dev/null 2>&1; then
        "$python" -m venv --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check --ignore-installed pip
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet .venv
    elif command -v uv >/dev/null 2>&1; then
        uv venv --quiet --seed --python "$python" .venv
    else
        fail "$python cannot make a virtual environment: it has neither ensurepip nor pip, and there is no virtualenv or uv." \
            "On Debian and Ubuntu: apt-get install python3-venv"
    fi
}

extra=$1
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $python ..."
    make_venv "$python"
fi
projects=(--editable ".[$extra]")
[[ $extra == cli ]] || projects+=(--editable packages/thirdmagic) # the tests import it
echo "Installing mageflow[$extra] into .venv ..."
# The two variables hold the build's own requirements to the same versions (one for old pip, one for new).
PIP_CONSTRAINT="$PWD/constraints.txt" PIP_BUILD_CONSTRAINT="$PWD/constraints.txt" \
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt "${projects[@]}"
