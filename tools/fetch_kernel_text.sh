#!/usr/bin/env bash
# Fetches the text of recipes/300m: C sources and documentation of the Linux kernel (Debian's linux-source-6.1, GPL-2.0) and a book in
# plain prose (Debian's anarchism, GPL-2), unpacked without being installed; then a tokenizer and token shards of it.
#   tools/fetch_kernel_text.sh [--all] [DIR]     default .cache/kernel; the text goes to DIR/text
#     --all: the whole source (about 830 MB) in place of the folders below (about 160 MB)
# The version is pinned: text of another one is other training data. Debian's mirrors drop old versions of the kernel; then set
# KERNEL_VERSION to one that `apt-cache policy linux-source-6.1` lists, and KERNEL_SHA256 to nothing or to its package's hash.
set -euo pipefail
cd "$(dirname "$0")/.."
KERNEL_VERSION=${KERNEL_VERSION-6.1.192-2}
KERNEL_SHA256=${KERNEL_SHA256-ae95fe63d4c553f8d0e6c86cb1ab566f3894a43743eb19ab585cd97d82f26514}
FOLDERS="kernel mm fs net sound block crypto lib Documentation"
lacuna=build/cpu-release/bin/lacuna
[ -x "$lacuna" ] || lacuna=$(ls build/*/bin/lacuna 2>/dev/null | head -1 || true)

dir=.cache/kernel
for option in "$@"; do
  case $option in
    --all) FOLDERS=. ;;
    -*) echo "fetch_kernel_text: $option: unknown option; --all is allowed" >&2; exit 2 ;;
    *) dir=$option ;;
  esac
done

# download NAME VERSION: the package's file, in the folder $work.
download() {
  (cd "$work" && { apt-get download -qq "$1=$2" || { apt-get update -qq && apt-get download -qq "$1=$2"; }; }) >&2 ||
    { echo "fetch_kernel_text: $1 $2 is not on the mirror; $(apt-cache policy "$1" | sed -n 's/^ *Candidate: /it has /p')" >&2; exit 3; }
  ls "$work/$1"_*.deb
}

if [ ! -f "$dir/text/SOURCE" ]; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"  # apt downloads as the user _apt where it can
  kernel=$(download linux-source-6.1 "$KERNEL_VERSION")
  hash=$(sha256sum "$kernel" | cut -c1-64)
  if [ -n "$KERNEL_SHA256" ] && [ "$hash" != "$KERNEL_SHA256" ]; then
    echo "fetch_kernel_text: $(basename "$kernel") has SHA-256 $hash, expected $KERNEL_SHA256" >&2
    exit 3
  fi
  book=$(download anarchism 15.3-3)
  mkdir -p "$work/text/linux" "$work/linux" "$work/book"
  dpkg-deb --fsys-tarfile "$kernel" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | tar -xJ -C "$work/linux" --strip-components=1
  # Headers that a program wrote, translations, and links would be most of the text or its duplicates.
  (cd "$work/linux" && find $FOLDERS -type f \( -name '*.[chS]' -o -name '*.rst' -o -name '*.txt' -o -name '*.py' -o -name '*.sh' \) \
    -not -path '*drivers/gpu/drm/amd/include/*' -not -path '*Documentation/translations/*' -print0 |
    sort -z | tar --null -T - -cf - | tar -xf - -C ../text/linux)
  dpkg-deb -x "$book" "$work/book"
  mkdir -p "$work/text/anarchism"
  find "$work/book" -name '*.md.gz' -exec sh -c 'for f; do gzip -dc "$f" > "$0/$(basename "${f%.gz}")"; done' "$work/text/anarchism" {} +
  echo "$(basename "$kernel") ($hash) and $(basename "$book"), $(find "$work/text" -type f | wc -l) documents, GPL-2.0" > "$work/text/SOURCE"
  rm -rf "$dir/text"
  mv "$work/text" "$dir/text"
fi
echo "text: $(cat "$dir/text/SOURCE")"
[ -x "$lacuna" ] || { echo "fetch_kernel_text: build the program to make shards of it (tools/quickstart.sh, or cmake --build)"; exit 0; }

[ -f "$dir/tokenizer.json" ] || "$lacuna" tokenizer train "$dir/text" --extensions c,h,S,rst,txt,py,sh,md --vocab-size 32768 \
  --output "$dir/tokenizer.json"
[ -f "$dir/shards/train_00000.h5" ] || "$lacuna" prepare "$dir/text" --extensions c,h,S,rst,txt,py,sh,md --tokenizer "$dir/tokenizer.json" \
  --output "$dir/shards" --source linux-source-6.1 --licence GPL-2.0 --replace-invalid-utf8 --holdout xfs=linux/fs/xfs \
  --holdout validation=0.005
