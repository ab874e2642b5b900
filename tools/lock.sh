#!/usr/bin/env bash
# Renew constraints.txt: resolve everything in a fresh environment and write down what came out.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[check]' hatchling editables
{
    echo "# Exact versions of everything that the targets of the Makefile install, from a resolve of .[check] on Python 3.11."
    echo "# To renew: tools/lock.sh"
    "$work/venv/bin/python" -m pip freeze --all --exclude-editable | grep --invert-match --ignore-case '^pip==' | sort --ignore-case
} >"$work/constraints.txt"
cp "$work/constraints.txt" constraints.txt
