#!/usr/bin/env python3
"""lacuna tokenizer as a user runs it. Usage: tokenizer_command_test.py PROGRAM [TEST ...]"""
import json
import re

from support import ProgramTest, escaped, main

TEXT = "Plain words, and 1234 numbers.\r\n\ttabs  and   spaces\n<|endoftext|>漢字かな한글 <|im_start|>é e\u0301 👩‍👩‍👧‍👦🇫🇮😀\u200b\u2028\0\x1b end"


class Tokenizer(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokenizer = cls.data / "tokenizer.json"

    def encode(self, text, *options):
        done = self.lacuna("tokenizer", "encode", "--tokenizer", self.tokenizer, *options, stdin=text)
        return [int(part) for part in done.stdout.split()]

    def decode(self, ids, separator=" "):
        return self.lacuna("tokenizer", "decode", "--tokenizer", self.tokenizer, stdin=separator.join(map(str, ids))).stdout

    def test_round_trip(self):
        ids = self.encode(TEXT)
        self.assertEqual(self.decode(ids), TEXT)
        self.assertEqual(self.decode(ids, ",\n"), TEXT)
        self.assertEqual(self.decode([]), "")
        self.assertEqual(self.encode(""), [])
        # From a file, too.
        (self.root / "text.txt").write_text(TEXT, newline="")
        done = self.lacuna("tokenizer", "encode", self.root / "text.txt", "--tokenizer", self.tokenizer)
        self.assertEqual([int(part) for part in done.stdout.split()], ids)

    def test_special_tokens(self):
        """Their strings are text, unless they are asked for; both ways give the text again."""
        special = {token["content"]: token["id"] for token in json.loads(self.tokenizer.read_text())["added_tokens"] if token["special"]}
        text, parsed = self.encode(TEXT), self.encode(TEXT, "--special")
        self.assertEqual(set(text) & set(special.values()), set())
        self.assertEqual([i for i in parsed if i in special.values()], [special["<|endoftext|>"], special["<|im_start|>"]])
        self.assertLess(len(parsed), len(text))
        self.assertEqual(self.decode(parsed), TEXT)

    def test_pieces_and_stats(self):
        done = self.lacuna("tokenizer", "encode", "--tokenizer", self.tokenizer, "--pieces", stdin=TEXT)
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        self.assertEqual([int(i) for i, _ in lines], self.encode(TEXT))
        raw = "".join(piece for _, piece in lines).encode()
        self.assertEqual(re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw), TEXT.encode())
        stats = self.lacuna("tokenizer", "encode", "--tokenizer", self.tokenizer, "--stats", stdin=TEXT).stdout
        self.assertRegex(stats, rf"\A{len(TEXT.encode())} bytes, {len(lines)} tokens, \S+ bytes a token, \S+ MB/s, decoded again: the same\n\Z")

    def test_train(self):
        other = self.root / "other.json"
        train = ("tokenizer", "train", self.root / "text", "--vocab-size", 300, "--output", other)
        done = self.lacuna(*train, "--special", "<|endoftext|>", "--special", "<|x|>", "--threads", 1)
        self.assertRegex(done.stdout, r"\Atext +60 documents, [^\n]+\nvocabulary +300 tokens of 300 asked for, 2 of them special, [^\n]+\nwritten +"
                         + escaped(other) + r", hash [0-9a-f]{16}\n\Z")
        first = other.read_bytes()
        self.lacuna(*train, "--special", "<|endoftext|>", "--special", "<|x|>", "--threads", 2)
        self.assertEqual(other.read_bytes(), first)

    def test_refusals(self):
        folder = escaped(self.root)
        encode = ("tokenizer", "encode", "--tokenizer", self.tokenizer)
        decode = ("tokenizer", "decode", "--tokenizer", self.tokenizer)
        self.refused(3, rf"{folder}/none\.json: cannot open: No such file", "tokenizer", "encode", "--tokenizer", self.root / "none.json")
        (self.root / "broken.json").write_text('{"model": {"type": "WordPiece"}}')
        self.refused(3, rf"{folder}/broken\.json: ", "tokenizer", "decode", "--tokenizer", self.root / "broken.json", stdin="1")
        self.refused(3, rf"{folder}/none\.txt: cannot open: No such file", *encode, self.root / "none.txt")
        self.refused(3, r"standard input: .*\b2\b", *encode, stdin=b"ab\xffc")
        (self.root / "latin1.txt").write_bytes(b"ab\xffc")
        self.refused(3, rf"{folder}/latin1\.txt: .*\b2\b", *encode, self.root / "latin1.txt")
        self.refused(3, r'standard input: id 1: found "320", allowed are 0 to 319', *decode, stdin="5 320")
        self.refused(3, r'standard input: id 0: found "-1", allowed', *decode, stdin="-1")
        self.refused(3, r'standard input: id 2: found "x{40}", allowed', *decode, stdin="1 2 " + "x" * 1000)
        self.refused(3, r'standard input: id 0: found "\\x1b', *decode, stdin="\x1b[2J")
        (self.root / "ids.txt").write_text("1 two")
        self.refused(3, rf'{folder}/ids\.txt: id 1: found "two"', *decode, self.root / "ids.txt")
        self.refused(2, r"command line: .*--(pieces|stats)", *encode, "--pieces", "--stats")
        train = ("tokenizer", "train", self.root / "text", "--output", self.root / "t.json", "--vocab-size")
        self.refused(2, r".*vocab", *train, 10)
        self.refused(2, r".*vocab", *train, "many")
        self.refused(3, rf"{folder}/empty: ", "tokenizer", "train", self.empty_folder(), "--vocab-size", 330, "--output", self.root / "t.json")
        self.refused(3, rf"{folder}/no/t\.json", "tokenizer", "train", self.root / "text", "--vocab-size", 330, "--output", self.root / "no" / "t.json")
        self.assertFalse((self.root / "t.json").exists())

    def empty_folder(self):
        (self.root / "empty").mkdir()
        return self.root / "empty"


if __name__ == "__main__":
    main()
