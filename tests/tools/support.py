"""What the tests of the program share: text, tokenizer, shards and a recipe, and how a command must refuse bad input.

A test file is run as `x_test.py PROGRAM [ITS OWN ARGUMENTS] [TEST ...]`.
"""
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv[1]
SOURCE = pathlib.Path(__file__).resolve().parents[2]

RECIPE = """
run: {{name: tiny, dir: {dir}, seed: 3}}
model:
  attention: nsa
  num_layers: 2
  num_dense_layers: 1
  width: 32
  vocab_size: 320
  num_heads: 4
  num_groups: 2
  head_dim_qk: 8
  head_dim_v: 6
  rotary_dims: 4
  dense_width: 48
nsa: {{block: 8, stride: 4, select_block: 8, num_selected: 4, num_init: 1, num_local: 2, window: 12}}
moe: {{num_experts: 4, experts_per_token: 2, expert_width: 16, num_shared: 1}}
data:
  tokenizer: {data}/tokenizer.json
  sources:
    - {{name: a, path: "{data}/train*.h5", weight: 1.0}}
  validation:
    - {{name: held_out, path: "{data}/validation*.h5"}}
  cache: {data}/index
optimizer: {{learning_rate: 1e-2, warmup_steps: 3}}
train:
  sequence_length: 96
  micro_batch: 1
  global_batch: 4
  steps: 12
  threads: 1
  checkpoint_every: 4
  keep_latest: 3
  eval_every: 6
  log_every: 1
"""


def write_corpus(folder):
    """Text with some structure to learn: sentences from a few words."""
    rng = random.Random(1)
    words = [w + e for w in ("spar", "blo", "gat", "win", "tok", "mod", "rout", "grad") for e in ("se", "ck", "ed", "dow", "en", "ing")]
    folder.mkdir()
    for i in range(60):
        sentences = (" ".join(rng.choices(words, k=rng.randint(4, 9))) + ".\n" for _ in range(rng.randint(2, 40)))
        (folder / f"doc{i:02}.txt").write_text("".join(sentences))


def changed(*pairs):
    """A change of a recipe's text; what is to be replaced must be there."""
    def change(text):
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        return text
    return change


class EmptyFolderTest(unittest.TestCase):
    """A folder `root`, and the program."""

    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory(prefix="lacuna_program_test_")
        cls.root = pathlib.Path(cls.temp.name)

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    @classmethod
    def must(cls, *arguments):
        """Runs the program where no test runs yet: it has to succeed."""
        done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def lacuna(self, *arguments, expect=0, stdin=""):
        """Runs the program; its output is what UTF-8 text it prints, never anything else."""
        command = [PROGRAM, *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        done = subprocess.run(command, input=stdin.encode() if isinstance(stdin, str) else stdin,
                              capture_output=True, timeout=120)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def refused(self, expect, pattern, *arguments, stdin=""):
        """Exit code `expect`, and one line on standard error, which begins "lacuna: " and goes on with `pattern`."""
        done = self.lacuna(*arguments, expect=expect, stdin=stdin)
        self.assertRegex(done.stderr, r"\Alacuna: (" + pattern + r")[^\n]*\n\Z")
        return done


class ProgramTest(EmptyFolderTest):
    """Besides, text/, and data/ with its tokenizer, training shards and held-out shards."""

    vocabulary = 320
    holdouts = ("validation=0.1",)
    recipe_text = RECIPE

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.root / "data"
        cls.data.mkdir()
        cls.write_text()
        cls.must("tokenizer", "train", cls.root / "text", "--vocab-size", cls.vocabulary, "--output", cls.data / "tokenizer.json")
        cls.must("prepare", cls.root / "text", "--tokenizer", cls.data / "tokenizer.json", "--output", cls.data,
                 *(option for holdout in cls.holdouts for option in ("--holdout", holdout)))

    @classmethod
    def write_text(cls):
        write_corpus(cls.root / "text")

    @classmethod
    def recipe(cls, name, change=lambda text: text):
        path = cls.root / f"{name}.yaml"
        path.write_text(change(cls.recipe_text.format(dir=cls.root / name, data=cls.data)))
        return path


def escaped(path):
    """A path as a regular expression."""
    return re.escape(str(path))


def main(own_arguments=1):
    """Runs the tests of the file; `own_arguments` of its command line are not names of tests."""
    unittest.main(argv=[sys.argv[0], *sys.argv[1 + own_arguments:]], verbosity=2)
