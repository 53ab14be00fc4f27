#!/usr/bin/env python3
"""lacuna inspect as a user runs it. Usage: inspect_command_test.py PROGRAM MASK_SHARD [TEST ...]"""
import collections
import re
import subprocess
import sys

from support import ProgramTest, escaped, main

MASK_SHARD = sys.argv[2]
END = "<|endoftext|>"
OPEN, CLOSE = "\u27e6", "\u27e7"

SAMPLE = re.compile(r"^=== sample (?P<k>\d+): source (?P<source>\w+), epoch (?P<epoch>\d+) \(sample (?P<number>\d+) of its (?P<all>\d+)\), "
                    r"(?P<documents>\d+) documents?, (?P<padding>\d+) padding rows, (?P<targets>\d+) target tokens of (?P<rows>\d+) rows\n"
                    r"    in (?P<place>.*)\n(?P<body>(?:(?!\n=== ).*\n)*)", re.M)
ROWS = re.compile(r"^--- rows \[(?P<begin>\d+), (?P<end>\d+)\): (?:(?P<padding>padding)|document (?P<document>\d+) of (?P<shard>\S+), "
                  r"(?:whole, (?P<length>\d+) tokens|tokens \[(?P<first>\d+), (?P<last>\d+)\) of (?P<of>\d+), cut (?P<cut>[a-z ]+)))"
                  r"(?:; (?P<masked>\d+) masked)?\n(?P<text>(?:(?!^--- rows ).*\n)*)", re.M)
CUT = re.compile(r'^\.\.\. cut; (?:the token behind row (?P<masked>\d+) is masked|row (?P<row>\d+) predicts "(?P<token>.*)" behind it)\n\Z', re.M)
TOKEN = re.compile(r"\x1b\[(2;)?38;5;(\d+)m(.*?)\x1b\[0m", re.S)


class Document:
    """A document's part of a sample, as it was printed."""

    def __init__(self, match):
        self.begin, self.end = int(match["begin"]), int(match["end"])
        self.number, self.masked = int(match["document"]), int(match["masked"] or 0)
        whole = match["length"] is not None
        self.first, self.last = (0, int(match["length"])) if whole else (int(match["first"]), int(match["last"]))
        self.length = self.last if whole else int(match["of"])
        self.cut = {None: (False, False), "at its beginning": (True, False), "at its end": (False, True),
                    "at both ends": (True, True)}[match["cut"]]
        found = CUT.search(match["text"])
        self.behind = found and found["token"] and found["token"].replace("\\n", "\n")
        self.text = (match["text"][:found.start()] if found else match["text"])[:-1]


class Sample:
    def __init__(self, match):
        for name in ("k", "epoch", "number", "all", "padding", "targets", "rows"):
            setattr(self, name, int(match[name]))
        self.source, self.place = match["source"], match["place"]
        blocks = list(ROWS.finditer(match["body"]))
        assert "".join(b[0] for b in blocks) == match["body"], match["body"]
        self.documents = [Document(b) for b in blocks if not b["padding"]]
        self.padding_rows = [(int(b["begin"]), int(b["end"])) for b in blocks if b["padding"]]
        assert len(self.documents) == int(match["documents"])


class Inspect(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # One document for each text, by its words; some characters of several tokens each.
        cls.shard = cls.data / "train_00000.h5"
        cls.texts = {path.read_text() for path in (cls.root / "text").iterdir()}
        cls.masked = cls.root / "masked.h5"
        subprocess.run([MASK_SHARD, cls.shard, cls.masked, "10", "30"], check=True)

    def samples(self, recipe, *options):
        done = self.lacuna("inspect", recipe, "--tokens", 100000, *options)
        return [Sample(match) for match in SAMPLE.finditer(done.stdout)]

    def header(self, shard):
        text = self.lacuna("inspect", shard, "--documents", 0).stdout
        return {name: int(re.search(rf"^  {name} +(\d+)", text, re.M)[1]) for name in ("documents", "tokens")}

    # --- token shards

    def test_shard(self):
        done = self.lacuna("inspect", self.shard, "--tokenizer", self.data / "tokenizer.json", "--documents", 100, "--tokens", 100000)
        self.assertTrue(done.stdout.startswith(f"{self.shard}: token shard, verified\n"))
        blocks = re.split(r"\n--- document (\d+): \d+ tokens, \d+ bytes\n", done.stdout)
        self.assertEqual(blocks[1::2], [str(d) for d in range(self.header(self.shard)["documents"])])
        for text in blocks[2::2]:
            self.assertIn(text.rstrip("\n").removesuffix(END), self.texts)
        self.assertNotIn(OPEN, done.stdout)
        self.assertNotIn("\x1b", done.stdout)

    def test_shard_options(self):
        done = self.lacuna("inspect", self.shard, "--document", 7, "--documents", 1, "--tokens", 5)
        self.assertRegex(done.stdout, r"\n--- document 7: (\d+) tokens, \d+ bytes\n(\d+ ){4}\d+\n\.\.\. \d+ more tokens\n\Z")
        self.assertIn("--- document 2: ", self.lacuna("inspect", self.shard).stdout)  # three by default
        # Known by its content, whatever its name.
        link = self.root / "shard.bin"
        link.symlink_to(self.shard)
        self.assertIn("token shard, verified", self.lacuna("inspect", link).stdout)

    def test_shard_masks(self):
        arguments = ("inspect", self.masked, "--tokenizer", self.data / "tokenizer.json", "--documents", 1, "--tokens", 60)
        plain = self.lacuna(*arguments, "--document", 3).stdout
        self.assertRegex(plain, r"  masked +\d+ tokens are without a loss\n")
        self.assertRegex(plain, r"--- document 3: \d+ tokens, \d+ bytes, 20 masked\n")
        # Two spans: the first token, which nothing predicts, and tokens 10 to 29.
        coloured = TOKEN.findall(self.lacuna(*arguments, "--document", 3, "--colour").stdout)
        self.assertEqual([i for i, token in enumerate(coloured) if token[0]], [0, *range(10, 30)])
        words = [token[2] for token in coloured]
        self.assertEqual(len(words), 60)
        expected = OPEN + words[0] + CLOSE + "".join(words[1:10]) + OPEN + "".join(words[10:30]) + CLOSE + "".join(words[30:])
        self.assertIn(f" masked\n{expected}\n... ", plain)
        # Shades alternate; another document has another colour.
        self.assertEqual([token[1] for token in coloured], [coloured[0][1], coloured[1][1]] * 30)
        self.assertNotEqual(coloured[0][1], coloured[1][1])
        other = TOKEN.search(self.lacuna(*arguments, "--document", 4, "--colour").stdout)
        self.assertNotIn(other[2], (coloured[0][1], coloured[1][1]))
        # Without a tokenizer, too.
        ids = self.lacuna("inspect", self.masked, "--document", 3, "--documents", 1, "--tokens", 31).stdout
        self.assertRegex(ids, rf"masked\n{OPEN}\d+{CLOSE}( \d+){{9}} {OPEN}\d+( \d+){{19}}{CLOSE} \d+\n")

    def test_text_that_looks_like_marks(self):
        """Brackets of the text, control characters, and characters that are cut."""
        text = f"a {OPEN}b{CLOSE} \x1b[31m\x7f\u009b\tc\n語😀"
        (self.root / "odd.txt").write_text(text)
        self.lacuna("prepare", self.root / "odd.txt", "--tokenizer", self.data / "tokenizer.json", "--output", self.root / "odd")
        arguments = ("inspect", self.root / "odd" / "train_00000.h5", "--tokenizer", self.data / "tokenizer.json")
        shown = lambda *options: self.lacuna(*arguments, *options).stdout.split(" bytes\n")[-1]
        self.assertEqual(shown(), f"a \\u27E6b\\u27E7 \\x1B[31m\\x7F\\xC2\\x9B\tc\n語😀{END}\n")
        tokens = int(re.search(r"--- document 0: (\d+) tokens", self.lacuna(*arguments).stdout)[1])
        # Only the character that is cut is shown as bytes.
        self.assertEqual(shown("--tokens", tokens - 2), "a \\u27E6b\\u27E7 \\x1B[31m\\x7F\\xC2\\x9B\tc\n語\\xF0\\x9F\\x98\n... 2 more tokens\n")
        coloured = "".join(token[2] for token in TOKEN.findall(shown("--colour")))
        self.assertIn("\\xE8\\xAA\\x9E", coloured)
        self.assertNotIn("\\u27E6", coloured)

    # --- packed samples

    def test_an_epoch_holds_every_document_once(self):
        recipe = self.recipe("epoch")
        header = self.header(self.shard)
        for packing in ("concat", "best_fit", "one_document"):
            options = ("--set", f"data.packing={packing}")
            count = self.samples(recipe, *options)[0].all
            samples = self.samples(recipe, *options, "--samples", count)
            self.assertEqual([s.k for s in samples], list(range(count)))
            pieces = collections.defaultdict(list)
            for sample in samples:
                self.assertEqual((sample.source, sample.epoch, sample.rows), ("a", 0, 96))
                ends = [(d.begin, d.end) for d in sample.documents] + sample.padding_rows
                self.assertEqual([0, *(end for _, end in ends)], [*(begin for begin, _ in ends), 96])
                self.assertEqual(sample.padding, sum(end - begin for begin, end in sample.padding_rows))
                # A document's first token is not predicted; the one behind a cut is.
                self.assertEqual(sample.targets, sum(d.end - d.begin - 1 + d.cut[1] for d in sample.documents))
                for d in sample.documents:
                    self.assertEqual(d.end - d.begin, d.last - d.first)
                    self.assertEqual(d.cut, (d.first > 0, d.last < d.length))
                    self.assertEqual(d.behind is not None, d.cut[1])
                    pieces[d.number].append(d)
            self.assertEqual(sum(s.targets for s in samples), header["tokens"] - header["documents"])
            self.assertEqual(len(pieces), header["documents"])
            for parts in pieces.values():
                parts.sort(key=lambda d: d.first)
                self.assertEqual([0, *(d.last for d in parts)], [*(d.first for d in parts), parts[0].length])
                for before, after in zip(parts, parts[1:]):
                    self.assertTrue(after.text.startswith(before.behind))
                self.assertIn("".join(d.text for d in parts).removesuffix(END), self.texts)
            if packing == "one_document":
                self.assertEqual({len(s.documents) for s in samples}, {1})

    def test_the_numbers_of_documents_are_the_shards(self):
        sample = self.samples(self.recipe("numbers"), "--set", "train.sequence_length=4096")[0]
        for d in sample.documents:
            if d.cut == (False, False):
                shown = self.lacuna("inspect", self.shard, "--tokenizer", self.data / "tokenizer.json", "--document", d.number,
                                    "--documents", 1, "--tokens", 100000).stdout
                self.assertTrue(shown.endswith(f" bytes\n{d.text}\n"))

    def test_masked_tokens(self):
        recipe = self.recipe("masked", lambda text: text.replace(f"{self.data}/train*.h5", str(self.masked)))
        count = self.samples(recipe)[0].all
        for sample in self.samples(recipe, "--samples", count):
            targets = 0
            for d in sample.documents:
                masked = [t for t in range(d.first, d.last) if 10 <= t < 30]
                self.assertEqual(d.masked, len([t for t in masked if t > d.first]))
                targets += sum(not 10 <= t < 30 for t in range(d.first + 1, d.last + d.cut[1]))
                self.assertEqual(OPEN in d.text, d.masked > 0)
                self.assertEqual(d.behind is not None, d.cut[1] and not 10 <= d.last < 30)
                if d.first == 0 and d.last > 30:
                    self.assertRegex(d.text, rf"\A{OPEN}[^{CLOSE}]+{CLOSE}[^{OPEN}]+{OPEN}[^{CLOSE}]+{CLOSE}[^{OPEN}]+\Z")
            self.assertEqual(sample.targets, targets)
        # In colours: the dim tokens are those without a loss.
        coloured = self.lacuna("inspect", recipe, "--colour", "--tokens", 100000).stdout
        rows = ROWS.findall(coloured)
        dim = sum(bool(token[0]) for token in TOKEN.findall(coloured))
        sample = self.samples(recipe)[0]
        self.assertEqual(len(TOKEN.findall(coloured)), sample.rows - sample.padding)
        behind = sum(d.behind is not None for d in sample.documents)
        self.assertEqual(sample.rows - sample.padding - dim + behind, sample.targets)
        self.assertGreater(len(rows), 0)

    def test_place_in_the_run(self):
        recipe = self.recipe("place")
        places = lambda *options: [s.place for s in self.samples(recipe, "--samples", 8, *options)]
        # Dealt as the trainer does: (micro-batch, rank) in order, micro_batch samples at a time.
        self.assertEqual(places("--ranks", 2)[:5], [f"step 1 of 12, micro-batch {m} of rank {r}" for m in (0, 1) for r in (0, 1)] +
                         ["step 2 of 12, micro-batch 0 of rank 0"])
        self.assertEqual(places("--ranks", 2, "--set", "train.micro_batch=2")[1:3],
                         [f"step 1 of 12, micro-batch 0 of rank {r}" for r in (0, 1)])
        self.assertEqual(self.samples(recipe, "--sample", 48)[0].place, "step 13 of 12, micro-batch 0 of rank 0 (the run ends before it)")

    def test_sources_and_epochs(self):
        recipe = self.recipe("two", lambda text: text.replace("  validation:\n", f'    - {{name: b, path: "{self.masked}", weight: 3.0}}\n  validation:\n'))
        options = ("--set", "train.sequence_length=2048")
        samples = self.samples(recipe, *options, "--samples", 400)
        counts = collections.Counter(s.source for s in samples)
        self.assertEqual(counts, {"a": 100, "b": 300})
        for name in "ab":
            mine = [s for s in samples if s.source == name]
            self.assertEqual([s.epoch * s.all + s.number for s in mine], list(range(len(mine))))
        self.assertGreater(max(s.epoch for s in samples), 0)
        # Sample k is the same wherever one starts.
        [sample] = self.samples(recipe, *options, "--sample", 399)
        self.assertEqual([d.text for d in sample.documents], [d.text for d in samples[399].documents])

    def test_writes_nothing(self):
        self.samples(self.recipe("dry", lambda text: text.replace(f"{self.data}/index", f"{self.root}/dry_index")))
        self.assertFalse((self.root / "dry_index").exists())
        self.assertFalse((self.root / "dry").exists())

    # --- refusals

    def test_refusals(self):
        recipe, shard = self.recipe("refused"), self.shard
        notes = self.root / "notes.txt"
        notes.write_text("words\n")
        kinds = r"a token shard \(\*\.h5\), a recipe \(\*\.yaml, \*\.yml\)"
        self.refused(2, rf"{escaped(notes)}: unknown kind of file; inspect shows {kinds}", "inspect", notes)
        self.refused(2, rf"{escaped(self.root)}: cannot read: Is a directory", "inspect", self.root)
        self.refused(2, rf"{escaped(self.root)}/none: cannot open: No such file", "inspect", self.root / "none")
        self.refused(3, rf"{escaped(self.root)}/none\.h5: cannot open: No such file", "inspect", self.root / "none.h5")
        self.refused(2, rf"{escaped(self.root)}/none\.yaml: cannot read: No such file", "inspect", self.root / "none.yaml")
        self.refused(2, rf"inspect: --sample: is for a recipe \(\*\.yaml, \*\.yml\); {escaped(shard)} is a token shard",
                     "inspect", shard, "--sample", 1)
        self.refused(2, r"inspect: --document: is for a token shard", "inspect", recipe, "--document", 1)
        self.refused(2, rf"inspect: --tokenizer: {escaped(recipe)} names its own", "inspect", recipe, "--tokenizer", "t.json")
        count = self.header(shard)["documents"]
        self.refused(2, rf"inspect: --document {count}: {escaped(shard)} holds documents 0 to {count - 1}", "inspect", shard, "--document", count)
        self.refused(3, rf"{escaped(self.root)}/t\.json: cannot open", "inspect", shard, "--tokenizer", self.root / "t.json")
        self.refused(2, r"command line: .*--sample", "inspect", recipe, "--sample", -1)
        self.refused(2, r"command line: .*--tokens", "inspect", recipe, "--tokens", 0)
        self.refused(2, r"--set model\.widht: .*did you mean model\.width\?", "inspect", recipe, "--set", "model.widht=3")
        self.refused(2, r"\S+refused\.yaml:\d+:\d+: train\.global_batch", "inspect", recipe, "--ranks", 3)
        self.refused(3, r"\S+/nothing\*\.h5: matches no files", "inspect", recipe, "--set", "data.sources[0].path=" + str(self.root / "nothing*.h5"))

    def test_damage(self):
        other = self.root / "other.json"
        self.lacuna("tokenizer", "train", self.root / "text", "--vocab-size", 330, "--output", other)
        self.refused(3, rf"{escaped(other)}: is tokenizer [0-9a-f]+, the shard {escaped(self.shard)} was made with [0-9a-f]+",
                     "inspect", self.shard, "--tokenizer", other)
        raw = bytearray(self.shard.read_bytes())
        damaged = self.root / "damaged.h5"
        for at in (len(raw) // 2, 0):
            changed = bytearray(raw)
            changed[at] ^= 1
            damaged.write_bytes(changed)
            self.refused(3, rf"{escaped(damaged)}:", "inspect", damaged)
        damaged.write_bytes(b"")
        self.refused(3, rf"{escaped(damaged)}:", "inspect", damaged)


if __name__ == "__main__":
    main(own_arguments=2)
