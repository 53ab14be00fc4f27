#!/usr/bin/env bash
# Installs the Debian packages that Lacuna builds and runs with. Safe to run again: it does nothing when all are there.
#   tools/setup.sh            install what is missing (uses sudo when not root)
#   tools/setup.sh --check    only list what is missing; exit 1 if anything is
set -euo pipefail

case "${1:-}" in
  '' | --check) ;;
  *) echo "setup: unknown option $1; --check is the only one" >&2; exit 2 ;;
esac

packages=(
  g++ cmake ninja-build ccache pkg-config git          # build
  openmpi-bin libopenmpi-dev                           # launch, CPU collectives
  libopenblas-openmp-dev                               # CPU matrix products (shares OpenMP's threads)
  libabsl-dev libyaml-cpp-dev libhdf5-dev              # status and strings, recipes, checkpoints and token shards
  libspdlog-dev libfmt-dev nlohmann-json3-dev          # logs, JSON
  libpcre2-dev libicu-dev libzstd-dev zlib1g-dev       # tokenizer patterns and normalisation, compressed inputs
  libxxhash-dev                                        # checksums
  libgtest-dev libgmock-dev libbenchmark-dev           # tests, benchmarks
  python3-jinja2                                       # tests: chat templates as inference stacks render them
  python3-yaml shellcheck                              # tests: launch files
  libcli11-dev                                         # the command line
  strace                                               # fault-injection tests
  ca-certificates python3                              # scripts
  python3-venv                                         # tools/setup_python.sh
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi
if [ "${1:-}" = --check ]; then
  echo "setup: missing: ${missing[*]}" >&2
  exit 1
fi

command -v apt-get >/dev/null || { echo "setup: no apt-get here (not Debian?); please install: ${missing[*]}" >&2; exit 1; }
# apt asks nothing; sudo would drop a variable that is merely exported.
as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: need root or sudo to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo "${as_root[@]}")
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
