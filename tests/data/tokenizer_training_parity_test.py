#!/usr/bin/env python3
"""`lacuna tokenizer train` learns the vocabulary and merges that the `tokenizers` library's BpeTrainer learns.

    tokenizer_training_parity_test.py .../lacuna .../tokenizer_batch [seed for more random texts]
"""
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizer_oracle import PATTERNS, SPECIAL, Batch, learn, library_ids, local_texts, random_texts
from tokenizer_texts import SENTENCES

REGEX = r"\p{L}+|\p{N}|[^\p{L}\p{N}]"


def synthetic():
    """Where counts tie, pairs overlap, or there is little to merge."""
    source = random.Random(5)
    letters = ["".join(source.choice("ab") for _ in range(source.randint(1, 12))) for _ in range(400)]
    return {
        "ties": [" ".join(f"{a}{b}" for a, b in itertools.product("abcdefghijkl", repeat=2)) * 5],
        "two letters": [" ".join(letters), "ab" * 500, "aab" * 300, "abba" * 200],
        "runs": ["a" * n + " " + "-" * n + "\n" * n for n in range(1, 40)],
        "few pairs": ["a b c", "a b"],
        "one word": ["banana"],
        "each word once": [" ".join(f"w{n}" for n in range(300))],
        "unicode": SENTENCES * 3,
        "random": random_texts(300, 30, list("abcde \n\t1é力😀'") + ["the ", "\u0301", "'s"], 6),
    }


def train(lacuna, folder, texts, pattern, vocab_size, min_frequency, special):
    inputs = pathlib.Path(folder) / "in"
    inputs.mkdir(exist_ok=True)
    for old in inputs.iterdir():
        old.unlink()
    for n, text in enumerate(texts):
        (inputs / f"{n:04}.txt").write_bytes(text.encode())
    output = pathlib.Path(folder) / "out.json"
    command = [lacuna, "tokenizer", "train", str(inputs), "--pattern", pattern, "--vocab-size", str(vocab_size), "--min-frequency",
               str(min_frequency), "--output", str(output)] + [a for token in special for a in ("--special", token)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output.read_text(encoding="utf-8")


def difference(document, theirs):
    ours = json.loads(document)["model"]
    if ours["vocab"] != theirs["model"]["vocab"]:
        a, b = (sorted(m["vocab"], key=m["vocab"].get) for m in (ours, theirs["model"]))
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return f"{len(a)} and {len(b)} tokens, from {at} on {a[at:at + 4]} and {b[at:at + 4]}"
    merges = [" ".join(m) for m in theirs["model"]["merges"]]
    if ours["merges"] != merges:
        return f"the same tokens by other merges: {[pair for pair in zip(ours['merges'], merges) if pair[0] != pair[1]][:4]}"
    return None


def main():
    lacuna, batch_program = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else None
    real = local_texts(250_000)
    cases = [("real", real, p, v, f) for p in (*PATTERNS, REGEX) for v in (300, 1000, 8000) for f in (1, 2, 5)]
    cases += [(name, texts, p, v, f) for name, texts in synthetic().items() for p, v, f in
              (("llama3", 8000, 1), ("llama3", 300, 1), ("gpt2", 1000, 2), ("deepseek3", 1000, 5), ("qwen2", 1000, 1))]
    if seed is not None:
        source = random.Random(seed)
        cases = []
        for n in range(400):
            pieces = source.sample(list("abcdefgh \n1-é") + ["ab", "ba", "aa"], source.randint(2, 8))
            cases.append((f"random {n}", random_texts(source.randint(1, 30), source.choice((6, 40, 200)), pieces, source.random()),
                          source.choice(PATTERNS), source.choice((300, 400, 2000)), source.choice((1, 2, 5))))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        batch = Batch(batch_program, folder)
        for n, (name, texts, pattern, vocab_size, min_frequency) in enumerate(cases):
            special = SPECIAL + (["<|user|>", "<|a b|>"] if n % 3 == 0 else [])
            document = train(lacuna, folder, texts, pattern, vocab_size, min_frequency, special)
            as_read = [t.replace("\r\n", "\n") for t in texts]
            wrong = difference(document, learn(pattern, as_read, vocab_size, min_frequency, special))
            # The library reads the file and gives the same ids.
            if not wrong and batch.encode(document, SENTENCES, True) != library_ids(document, SENTENCES, True):
                wrong = "other ids"
            if wrong:
                failures += 1
                print(f"FAILED {name}, {pattern}, {vocab_size} tokens, least frequency {min_frequency}: {wrong}"[:1500])
    print(f"tokenizers {tokenizers.__version__}: {len(cases)} vocabularies, {failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
