#!/usr/bin/env bash
# Builds Lacuna without CUDA and runs every test; does all the set-up a fresh Debian 12 machine needs.
#   tools/test.sh [ctest options]      e.g. tools/test.sh -R nsa
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
cmake --preset cpu-release >/dev/null
cmake --build build/cpu-release -j "$(nproc)"
# Tests use OpenMP and MPI themselves: one at a time keeps their timeouts meaningful.
ctest --test-dir build/cpu-release --output-on-failure --no-tests=error "$@"
