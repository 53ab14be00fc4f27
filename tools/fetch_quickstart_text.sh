#!/usr/bin/env bash
# Fetches the quickstart's real text: the reStructuredText sources of Debian's python3.11-doc (about 11 MB, PSF licence), unpacked
# without being installed. Nothing to do where it is there already.
#   tools/fetch_quickstart_text.sh [DIR]      default .cache/quickstart; the text goes to DIR/text
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-.cache/quickstart}
[ -f "$dir/text/SOURCE" ] && { echo "text: $(cat "$dir/text/SOURCE")"; exit 0; }

mkdir -p "$dir"
work=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"  # apt downloads as the user _apt where it can
(cd "$work" && { apt-get download -qq python3.11-doc || { apt-get update -qq && apt-get download -qq python3.11-doc; }; })
package=$(ls "$work"/python3.11-doc_*.deb)
dpkg-deb -x "$package" "$work/unpacked"
rm -rf "$dir/text"
mkdir "$work/text"
cp -r "$work/unpacked/usr/share/doc/python3.11/html/_sources/." "$work/text"
echo "$(basename "$package"), $(sha256sum "$package" | cut -c1-16), $(find "$work/text" -name '*.rst.txt' | wc -l) documents, PSF licence" > "$work/text/SOURCE"
mv "$work/text" "$dir/text"
echo "text: $(cat "$dir/text/SOURCE")"
