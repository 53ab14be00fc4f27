#!/usr/bin/env bash
# Unpacks the headers of cudnn-frontend (NVIDIA's C++ layer over cuDNN, MIT licence) into .cache/cudnn-frontend/<version>/include,
# where CMake finds them; full attention on CUDA goes through them. Safe to run again: it does nothing when they are there.
#   tools/setup_cudnn_frontend.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# CMake reads the version here. One wheel whatever the Python that runs pip: only its headers are used.
version=1.18.0
sha256=382ea063b92cbfd5b442cb75ff8422932d78276aecf139e46713ed1ad3d07af4

target=.cache/cudnn-frontend/$version
if [ -f "$target/complete" ]; then
  echo "setup: cudnn-frontend $version is in $target"
  exit 0
fi
mkdir -p .cache/cudnn-frontend
work=$(mktemp -d .cache/cudnn-frontend/new.XXXXXX)
trap 'rm -rf "$work"' EXIT

# Debian's python3 comes without pip; the one of tools/setup_python.sh has it.
pip=(python3 -m pip)
if [ -x .cache/venv/bin/python ]; then pip=(.cache/venv/bin/python -m pip); fi
"${pip[@]}" --version >/dev/null 2>&1 || { echo "setup: no pip; run tools/setup_python.sh first" >&2; exit 1; }
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
  --abi cp311 --platform manylinux_2_28_x86_64 --dest "$work" "nvidia-cudnn-frontend==$version"
wheel=$(echo "$work"/*.whl)
echo "$sha256  $wheel" | sha256sum --check --quiet || { echo "setup: $wheel is not the cudnn-frontend $version that was pinned" >&2; exit 1; }
python3 -m zipfile -e "$wheel" "$work/wheel"
rm -rf "$target"
mkdir -p "$target"
mv "$work/wheel/include" "$work/wheel/nvidia_cudnn_frontend-$version.dist-info/licenses" "$target/"
touch "$target/complete"
echo "setup: cudnn-frontend $version in $target"
