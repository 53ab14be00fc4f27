#!/usr/bin/env bash
# Installs the Python packages that tests compare Lacuna with, into .cache/venv, where CMake finds them. Safe to run again.
#   tools/setup_python.sh
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  tokenizers==0.23.3   # ids and learnt vocabularies
)

[ -x .cache/venv/bin/python ] || python3 -m venv .cache/venv
.cache/venv/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "setup: ${packages[*]} in .cache/venv"
