#!/usr/bin/env python3
"""Encodes a text with `lacuna tokenizer` and with Hugging Face's `tokenizers` (one core each), compares the ids and the speed.

  python3 tools/compare_tokenizers.py build/cpu-release/bin/lacuna tokenizer.json text.txt       (needs: pip install tokenizers)
"""
import os
import re
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402  (reads the environment)


def main():
    program, file, path = sys.argv[1:4]
    text = open(path, encoding="utf-8", newline="").read()
    size = len(text.encode())

    theirs = tokenizers.Tokenizer.from_file(file)
    theirs.encode_special_tokens = True  # as lacuna: a special token's string in the text is text
    seconds, expected = [], None
    for _ in range(3):
        start = time.perf_counter()
        expected = theirs.encode(text, add_special_tokens=False).ids
        seconds.append(time.perf_counter() - start)

    stats = [subprocess.run([program, "tokenizer", "encode", path, "--tokenizer", file, "--stats"], capture_output=True, text=True, check=True).stdout
             for _ in range(3)]
    speeds = [float(re.search(r"([\d.]+) MB/s", s).group(1)) for s in stats]
    ids = [int(i) for i in subprocess.run([program, "tokenizer", "encode", path, "--tokenizer", file], capture_output=True, text=True,
                                          check=True).stdout.split()]
    print(f"{path}: {size / 1e6:.1f} MB, {len(ids)} tokens, {size / len(ids):.2f} bytes/token")
    print(f"lacuna                 {max(speeds):7.1f} MB/s")
    print(f"tokenizers {tokenizers.__version__:11} {size / 1e6 / min(seconds):7.1f} MB/s")
    if ids != expected:
        at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
        print(f"ids differ from token {at} on: {ids[at:at + 5]} and {expected[at:at + 5]} ({len(ids)} and {len(expected)} tokens)", file=sys.stderr)
        return 1
    print("the same ids")
    return 0


if __name__ == "__main__":
    sys.exit(main())
