#!/usr/bin/env python3
"""lacuna generate as a user runs it. Usage: generate_command_test.py PROGRAM [TEST ...]"""
import re
import shutil
import subprocess

from support import PROGRAM, ProgramTest, escaped, main

PROMPTS = ["gradse winck", "spar", "tokdow blo\nmoding. gatse"]


class Generate(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_dir = cls.root / "model"
        done = subprocess.run([PROGRAM, "train", cls.recipe("model")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def text(self, *options, tokens=24, threads=1):
        """The texts of a batch: what stands on standard output."""
        done = self.lacuna("generate", self.run_dir, "--max-tokens", tokens, "--threads", threads, *options)
        texts = re.split(r"^---- \d+ of \d+\n", done.stdout, flags=re.M)
        self.assertEqual(done.stderr.count("\n"), max(1, len(texts) - 1))
        self.assertRegex(done.stderr, r"\A(\(\d+ tokens, (the document ended|at the limit)\)\n)+\Z")
        return texts if len(texts) == 1 else texts[1:]

    def batch(self, prompts, *options, threads=1):
        return self.text(*(part for prompt in prompts for part in ("--prompt", prompt)), *options, threads=threads)

    def copy(self, name):
        shutil.copytree(self.run_dir, self.root / name)
        return self.root / name

    def test_seeds(self):
        one = self.batch(PROMPTS[:1], "--temperature", 1.0, "--seed", 5)
        self.assertTrue(one[0].startswith(PROMPTS[0]))
        self.assertGreater(len(one[0]), len(PROMPTS[0]) + 5)
        self.assertEqual(self.batch(PROMPTS[:1], "--temperature", 1.0, "--seed", 5), one)
        self.assertEqual(self.batch(PROMPTS[:1], "--temperature", 1.0, "--seed", 5, threads=2), one)
        self.assertNotEqual(self.batch(PROMPTS[:1], "--temperature", 1.0, "--seed", 6), one)

    def test_temperature_zero(self):
        best = self.batch(PROMPTS, "--temperature", 0, "--seed", 1)
        self.assertEqual(self.batch(PROMPTS, "--temperature", 0, "--seed", 2), best)
        self.assertEqual(self.batch(PROMPTS, "--temperature", 0, "--seed", 3, "--top-p", 0.5), best)
        # So little probability leaves the likeliest token alone.
        self.assertEqual(self.batch(PROMPTS, "--temperature", 1, "--top-p", 1e-9), best)
        self.assertNotEqual(self.batch(PROMPTS, "--temperature", 1), best)

    def test_a_batch_gives_each_prompt_its_own_text(self):
        together = self.batch(PROMPTS, "--temperature", 0)
        self.assertEqual(len(together), 3)
        for prompt, text in zip(PROMPTS, together):
            self.assertEqual(self.batch([prompt], "--temperature", 0), [text])
        # Random numbers are those of the place in the batch: another prompt beside it changes nothing.
        sampled = self.batch(PROMPTS, "--temperature", 1)
        self.assertEqual(self.batch(PROMPTS[:1], "--temperature", 1), sampled[:1])
        self.assertEqual(self.batch(["winck", PROMPTS[1], "a"], "--temperature", 1)[1], sampled[1])
        self.assertEqual(len(set(self.batch(PROMPTS[:1] * 3, "--temperature", 1))), 3)

    def test_lengths_and_a_new_document(self):
        short, long = (self.text("--prompt", "spar", "--temperature", 0, tokens=n)[0] for n in (4, 16))
        self.assertTrue(long.startswith(short.removesuffix("\n").rstrip("\ufffd")))
        self.assertLess(len(short), len(long))
        self.assertEqual(self.text("--seed", 4), self.text("--seed", 4))

    def test_steps(self):
        latest = self.batch(PROMPTS, "--temperature", 0)
        self.assertEqual(self.batch(PROMPTS, "--temperature", 0, "--step", 12), latest)
        self.assertNotEqual(self.batch(PROMPTS, "--temperature", 0, "--step", 4), latest)

    def test_wrong_run_and_step(self):
        folder = escaped(self.root)
        self.refused(4, rf"{folder}/none/checkpoints: cannot \w+( \w+)*: No such file", "generate", self.root / "none")
        (self.root / "new" / "checkpoints").mkdir(parents=True)
        self.refused(4, rf"{folder}/new/checkpoints: has no checkpoint", "generate", self.root / "new")
        self.refused(4, rf"{folder}/model/checkpoints: has no checkpoint of step 5", "generate", self.run_dir, "--step", 5)
        for option, value in (("--step", 0), ("--max-tokens", 0), ("--temperature", -1), ("--top-p", 2), ("--seed", "x"), ("--threads", -2)):
            self.refused(2, rf"command line: .*{option}", "generate", self.run_dir, option, value)
        self.refused(2, r"command line: .*run_dir", "generate")

    def test_device(self):
        """A machine without a card, or a build without CUDA; the model stays on the CPU unless a card is asked for."""
        on_cpu = self.batch(PROMPTS, "--temperature", 0, "--device", "cpu")
        self.assertEqual(self.batch(PROMPTS, "--temperature", 0), on_cpu)
        self.assertEqual(self.batch(PROMPTS, "--temperature", 0, "--device", "auto"), on_cpu)
        self.refused(2, r"--device cuda: no CUDA card is seen by this build and driver$", "generate", self.run_dir, "--device", "cuda")
        self.refused(2, r"command line: .*--device.*gpu.*(auto|cpu|cuda)", "generate", self.run_dir, "--device", "gpu")
        # The recipe's own choice is the training's.
        self.assertRegex((self.run_dir / "recipe.yaml").read_text(), r"device: auto")

    def test_damaged_checkpoints(self):
        run = self.copy("damaged")
        expected = self.batch(PROMPTS[:1], "--temperature", 0, "--step", 8)[0]
        arguments = ("generate", run, "--threads", 1, "--max-tokens", 24, "--temperature", 0, "--prompt", PROMPTS[0])
        damage = lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0" if path.suffix == ".json" else
                                               bytes(b ^ (i == path.stat().st_size // 2) for i, b in enumerate(path.read_bytes())))
        damage(run / "checkpoints" / "step_12" / "rank_0.h5")
        done = self.lacuna(*arguments)
        self.assertEqual(done.stdout, expected)
        self.assertRegex(done.stderr, r"\Alacuna: warning: \S+/step_12/rank_0\.h5: checksum mismatch in [^\n]+; falling back to step_8\n\(\d+ tokens")
        self.refused(4, r"\S+/step_12/rank_0\.h5: checksum mismatch in \S+", *arguments, "--step", 12)
        # A manifest that cannot be read.
        damage(run / "checkpoints" / "step_12" / "MANIFEST.json")
        done = self.lacuna(*arguments)
        self.assertEqual(done.stdout, expected)
        self.assertRegex(done.stderr, r"\Alacuna: warning: \S+/step_12/MANIFEST\.json: [^\n]+\n\(")
        self.refused(4, r"\S+/step_12/MANIFEST\.json: ", *arguments, "--step", 12)
        for step in (4, 8):
            damage(run / "checkpoints" / f"step_{step}" / "MANIFEST.json")
        self.refused(4, r"\S+/checkpoints: has no checkpoint that is whole \(\S+/step_12/MANIFEST\.json: ", *arguments)

    def test_tokenizer(self):
        """It is found where the recipe says; another one is refused."""
        tokenizer, kept = self.data / "tokenizer.json", self.root / "kept.json"
        tokenizer.rename(kept)
        try:
            self.refused(3, rf"{escaped(tokenizer)}: cannot open: No such file", "generate", self.run_dir)
            self.lacuna("tokenizer", "train", self.root / "text", "--vocab-size", 330, "--output", tokenizer)
            self.refused(3, rf"{escaped(tokenizer)}: is not the tokenizer", "generate", self.run_dir)
        finally:
            kept.replace(tokenizer)
        self.refused(3, r"generate: --prompt 2 of 2: .*\b1\b", "generate", self.run_dir, "--prompt", "a", "--prompt", b"b\xff")


if __name__ == "__main__":
    main()
