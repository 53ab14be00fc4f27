#!/usr/bin/env python3
"""`lacuna prepare x.idx`: Megatron's files become the shards that their text becomes, and what is wrong with them is named.

    megatron_test.py .../lacuna

The files are written here from the format's description, with the struct module alone.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

LACUNA = sys.argv[1]
EOD = 257
TYPES = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 8: "H"}
TEXTS = ["one", "a longer document, in two sequences", "", "größe 力 😀\n", "x", "one"] + [f"document {n}" for n in range(3000)]


def tokenizer():
    """Token b is byte b, 257 the end of a document."""
    symbols, more = {}, 0x100
    for b in range(256):
        if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE:
            symbols[chr(b)] = b
        else:
            symbols[chr(more)] = b
            more += 1
    symbols["zz"] = 256
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [{"id": EOD, "content": "<|endoftext|>", "special": True}], "pre_tokenizer": byte_level,
            "decoder": byte_level, "model": {"type": "BPE", "vocab": symbols, "merges": []}}


def sequences_of(texts, end, cut):
    """Per document its sequences of ids: some documents in several, empty ones among them."""
    documents = []
    for n, text in enumerate(texts):
        ids = list(text.encode()) + ([EOD] if end and text else [])
        documents.append([ids[:3], [], ids[3:]] if cut and n % 3 == 1 else [ids])
    return documents


def write(stem, documents, code=4, modes=False, change=lambda fields: None):
    """`change` edits the fields before they are written."""
    lengths, pointers, indices, tokens = [], [], [0], b""
    for document in documents:
        for ids in document:
            lengths.append(len(ids))
            pointers.append(len(tokens))
            tokens += struct.pack(f"<{len(ids)}{TYPES[code]}", *ids)
        indices.append(len(lengths))
    fields = {"magic": b"MMIDIDX\0\0", "version": 1, "code": code, "sequences": len(lengths), "documents": len(indices), "lengths": lengths,
              "pointers": pointers, "indices": indices, "modes": bytes(len(lengths)) if modes else b"", "tokens": tokens, "cut": None}
    change(fields)
    index = fields["magic"] + struct.pack("<QBQQ", fields["version"], fields["code"], fields["sequences"], fields["documents"])
    index += struct.pack(f"<{len(fields['lengths'])}i", *fields["lengths"]) + struct.pack(f"<{len(fields['pointers'])}q", *fields["pointers"])
    index += struct.pack(f"<{len(fields['indices'])}q", *fields["indices"]) + fields["modes"]
    pathlib.Path(f"{stem}.idx").write_bytes(index[:fields["cut"]])
    if fields["tokens"] is None:
        pathlib.Path(f"{stem}.bin").unlink(missing_ok=True)
    else:
        pathlib.Path(f"{stem}.bin").write_bytes(fields["tokens"])


def prepare(folder, source, output, *options):
    return subprocess.run([LACUNA, "prepare", str(source), "--tokenizer", f"{folder}/tokenizer.json", "--output", f"{folder}/{output}", "--overwrite",
                           "--holdout", "validation=0.1", "--shard-tokens", "9000", *options], capture_output=True, text=True)


def shards(folder):
    return {p.name: p.read_bytes() for p in sorted(pathlib.Path(folder).glob("*.h5"))}


def check_shards(folder):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS)
    (folder / "t.jsonl").write_text(lines, encoding="utf-8")
    assert prepare(folder, folder / "t.jsonl", "text", "--threads", "1").returncode == 0
    expected = shards(folder / "text")
    assert len(expected) > 4 and any(name.startswith("validation") for name in expected)
    documents = len(TEXTS)
    for code in (8, 4, 5, 3):
        for end, cut, modes, threads in ((True, False, False, "1"), (False, True, True, "3")):
            write(folder / "m", sequences_of(TEXTS, end, cut), code, modes)
            run = prepare(folder, folder / "m.idx", "ids", "--threads", threads)
            assert run.returncode == 0, run.stderr
            assert shards(folder / "ids") == expected, f"type {code}, ends {end}: other shards"
            added = 0 if end else documents - 1
            assert f"token ids: {documents} documents, the end of document added to {added}, 0 with another one inside\n" in run.stdout, run.stdout
            assert "documents: 1 empty left out" in run.stdout, run.stdout
    # Types that do not hold the end of document, of which i8 holds ASCII only.
    for code, texts in ((1, TEXTS), (2, [t for t in TEXTS if t.isascii()])):
        (folder / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
        write(folder / "m", sequences_of(texts, False, True), code)
        assert prepare(folder, folder / "t.jsonl", "text").returncode == 0 and prepare(folder, folder / "m.idx", "ids").returncode == 0
        assert shards(folder / "ids") == shards(folder / "text"), f"type {code}: other shards"
    # The end of a document inside one stays, and is counted.
    write(folder / "m", [[[97, EOD, 98, EOD]], [[EOD]], [[EOD, EOD]], [[99]]])
    run = prepare(folder, folder / "m.idx", "ids")
    assert "token ids: 4 documents, the end of document added to 1, 2 with another one inside\n" in run.stdout, run.stdout + run.stderr
    assert "documents: 1 empty left out" in run.stdout, run.stdout


def check_errors(folder):
    documents = [[[1, 2, 3]], [[4, 5], [6, EOD]], [[7]]]  # 4 sequences, 4 indices; pointers at 50, indices at 82

    def put(key, index, value):
        return lambda fields: fields[key].__setitem__(index, value)

    cases = [
        (dict(magic=b"TNTIDX\0\0\0"), "m.idx: byte 0: no Megatron index, which begins with \"MMIDIDX\\0\\0\""),
        (dict(cut=0), "m.idx: byte 0: no Megatron index, which begins with \"MMIDIDX\\0\\0\""),
        (dict(cut=20), "m.idx: has 20 bytes, a Megatron index has at least 34"),
        (dict(version=2), "m.idx: byte 9: version 2, must be 1"),
        (dict(code=6), "m.idx: byte 17: token type 6, allowed are 1 (u8), 2 (i8), 3 (i16), 4 (i32), 5 (i64), 8 (u16)"),
        (dict(code=0), "m.idx: byte 17: token type 0, allowed are 1 (u8), 2 (i8), 3 (i16), 4 (i32), 5 (i64), 8 (u16)"),
        (dict(sequences=5), "m.idx: byte 18: 5 sequences and 4 document indices do not fit in a file of 114 bytes, they take 126, with modes 131"),
        (dict(sequences=2**63), f"m.idx: byte 18: {2**63} sequences and 4 document indices do not fit in a file of 114 bytes"),
        (dict(documents=2**61), f"m.idx: byte 18: 4 sequences and {2**61} document indices do not fit in a file of 114 bytes"),
        (dict(documents=0, indices=[]), "m.idx: byte 26: 0 document indices, there must be one more than documents"),
        (dict(cut=-1), "m.idx: byte 18: 4 sequences and 4 document indices do not fit in a file of 113 bytes, they take 114, with modes 118"),
        (dict(modes=bytes(3)), "m.idx: byte 18: 4 sequences and 4 document indices do not fit in a file of 117 bytes, they take 114, with modes 118"),
        (put("lengths", 1, -2), "m.idx: byte 38: sequence 1 has -2 tokens, must be at least 0"),
        (put("pointers", 0, 4), "m.idx: byte 50: sequence 0 begins at byte 4, must begin at 0, where the one before ends"),
        (put("pointers", 2, 16), "m.idx: byte 66: sequence 2 begins at byte 16, must begin at 20, where the one before ends"),
        (put("pointers", 3, 2**62), f"m.idx: byte 74: sequence 3 begins at byte {2**62}, must begin at 28, where the one before ends"),
        (put("pointers", 1, -12), "m.idx: byte 58: sequence 1 begins at byte -12, must begin at 12, where the one before ends"),
        (put("lengths", 3, 2**31 - 1), f"m.idx: sequence 3 ({2**31 - 1} tokens of i32 from byte 28 on) ends behind the 32 bytes of m.bin"),
        (put("indices", 0, 1), "m.idx: byte 82: the first document index is sequence 1, must be 0"),
        (put("indices", 3, 3), "m.idx: byte 106: the last document index is sequence 3, must be 4"),
        (put("indices", 3, 5), "m.idx: byte 106: the last document index is sequence 5, must be 4"),
        (put("indices", 2, 0), "m.idx: byte 98: document index 2 is sequence 0, must be 1 to 4"),
        (put("indices", 1, 5), "m.idx: byte 90: document index 1 is sequence 5, must be 0 to 4"),
        (put("indices", 1, -1), "m.idx: byte 90: document index 1 is sequence -1, must be 0 to 4"),
        (dict(tokens=None), "m.bin: cannot open: No such file or directory"),
        (dict(tokens=b""), "m.idx: sequence 0 (3 tokens of i32 from byte 0 on) ends behind the 0 bytes of m.bin"),
        (dict(tokens=bytes(31)), "m.idx: sequence 3 (1 tokens of i32 from byte 28 on) ends behind the 31 bytes of m.bin"),
        (dict(tokens=bytes(36)), "m.bin: has 36 bytes, m.idx describes 32"),
        (dict(tokens=struct.pack("<8i", 0, 0, 0, 0, 258, 0, 0, 0)), "m.bin: byte 16: token 258 of document 1, the tokenizer has 0 to 257"),
        (dict(tokens=struct.pack("<8i", 0, 0, 0, 0, 0, 0, 0, -1)), "m.bin: byte 28: token -1 of document 2, the tokenizer has 0 to 257"),
    ]
    for change, expected in cases:
        write(folder / "m", documents, 4, change=change if callable(change) else lambda fields: fields.update(change))
        run = prepare(folder, folder / "m.idx", "bad")
        found = run.stderr.replace(f"{folder}/", "")
        assert (run.returncode, found) == (3, f"lacuna: {expected}\n"), f"expected {expected!r}, got {run.returncode} {found!r}"
        assert not list((folder / "bad").glob("*"))
    write(folder / "m", documents)
    run = prepare(folder, folder / "m.bin", "bad")
    assert run.returncode == 3 and run.stderr == f"lacuna: {folder}/m.bin: the tokens of {folder}/m.idx; give that one\n", run.stderr
    run = subprocess.run([LACUNA, "tokenizer", "train", str(folder / "m.idx"), "--vocab-size", "400", "--output", f"{folder}/t.json"], capture_output=True,
                         text=True)
    assert run.returncode == 3 and run.stderr == f"lacuna: {folder}/m.idx: is token ids, text is needed here\n", run.stderr
    write(folder / "m", [])
    run = prepare(folder, folder / "m.idx", "bad")
    assert run.returncode == 3 and "no text for training" in run.stderr, run.stderr
    return len(cases)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer()), encoding="utf-8")
        check_shards(folder)
        print(f"the shards of the text from every token type; {check_errors(folder)} errors named")


if __name__ == "__main__":
    main()
