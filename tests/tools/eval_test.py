#!/usr/bin/env python3
"""lacuna eval as a user runs it, on a model trained for a few steps. Usage: eval_test.py PROGRAM [TEST ...]"""
import json
import struct

from support import ProgramTest, changed, main, write_corpus


class Eval(ProgramTest):
    vocabulary = 400
    holdouts = ("other=other", "validation=0.3")

    @classmethod
    def write_text(cls):
        write_corpus(cls.root / "text")
        write_corpus(cls.root / "text" / "other")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        other = f'    - {{name: other, path: "{cls.data}/other*.h5"}}\n  cache:'
        for attention in ("nsa", "full"):
            cls.must("train", cls.recipe(attention, changed(
                ("attention: nsa", f"attention: {attention}"), ("vocab_size: 320", "vocab_size: 400"), ("  cache:", other),
                ("select_block: 8, num_selected: 4, num_init: 1, num_local: 2, window: 12",
                 "select_block: 16, num_selected: 4, num_init: 1, num_local: 2, window: 16"),
                ("sequence_length: 96", "sequence_length: 128"), ("checkpoint_every: 4", "checkpoint_every: 6"),
                ("eval_every: 6", "eval_every: 0\n  dtype: f64"))))
        cls.must("synth", "--task", "modular_chain,addition", "--levels", "1,2", "--count", "30", "--heldout", "5",
                 "--output", cls.root / "problems")

    def evaluate(self, name, run, *arguments):
        done = self.must("eval", name, self.root / run, *arguments, "--threads", "1")
        return done.stdout, json.loads((self.root / run / "eval" / f"{name}.json").read_text())

    def not_evaluated(self, expect, pattern, *arguments):
        self.refused(expect, f".*{pattern}", "eval", *arguments)

    def test_loss_is_what_training_reports(self):
        logged = [json.loads(line) for line in (self.root / "nsa" / "metrics.jsonl").read_text().splitlines()]
        trained = [line["evaluation"] for line in logged if "evaluation" in line][-1]
        out, report = self.evaluate("loss", "nsa")
        self.assertEqual(report["step"], 12)
        self.assertFalse(report["by_document"])
        for entry in report["sets"]:
            for key in ("loss", "bits_per_byte"):
                self.assertAlmostEqual(entry["total"][key], trained[entry["name"]][key], delta=1e-6)
            self.assertEqual(entry["total"]["tokens"], trained[entry["name"]]["tokens"])
            self.assertEqual(sum(b["tokens"] for b in entry["by_position"]), entry["total"]["tokens"])
            self.assertEqual([b["from"] for b in entry["by_position"]], [1, 2, 4, 8, 16, 32, 64, 128])
            self.assertIn(f"{entry['total']['loss']:.4f}", out)
        self.assertRegex(out, r"held_out +1 +")
        self.assertRegex(out, r" 64 - 127 ")

    def test_device(self):
        """A model in f64 stays on the CPU wherever it is; the report says where it was."""
        out, report = self.evaluate("loss", "nsa", "--samples", "2", "--device", "cpu")
        self.assertEqual(report["device"], "cpu")
        self.assertRegex(out, r"(?m)^\S+/nsa: step 12, on CPU, 1 thread$")
        self.assertEqual(self.evaluate("loss", "nsa", "--samples", "2", "--device", "auto")[1], report)
        self.assertEqual(self.evaluate("loss", "nsa", "--samples", "2")[1], report)
        problems = next((self.root / "problems").glob("*.jsonl"))
        for arguments in (("loss", self.root / "nsa"), ("needle", self.root / "full"), ("answers", self.root / "nsa", problems)):
            self.not_evaluated(2, r"--device cuda: (no CUDA card is seen by this build and driver|train\.dtype = f64 has no CUDA kernels)", *arguments, "--device", "cuda")
            self.not_evaluated(2, r"--device", *arguments, "--device", "gpu")

    def test_selection(self):
        """The lists of a held-out text and a layer: ascending, up to the own block; the table is about them."""
        dump = self.root / "lists.npy"
        out, report = self.evaluate("selection", "nsa", "--length", "200", "--dump", dump, "--layer", "1")
        self.assertEqual([layer["layer"] for layer in report["layers"]], [0, 1])
        data = dump.read_bytes()
        self.assertTrue(data.startswith(b"\x93NUMPY\x01\x00"))
        end = data.index(b"\n") + 1
        self.assertIn(b"{'descr': '<i2', 'fortran_order': False, 'shape': (200, 2, 4), }", data[:end])
        numbers = struct.unpack(f"<{200 * 2 * 4}h", data[end:])
        lists = [[b for b in numbers[i:i + 4] if b >= 0] for i in range(0, len(numbers), 4)]
        for row, blocks in enumerate(lists):
            own = row // 2 // 16
            self.assertEqual(blocks, sorted(set(blocks)))
            self.assertEqual(len(blocks), min(4, own + 1))
            self.assertLessEqual({0, max(own - 1, 0), own}, set(blocks))
        self.assertAlmostEqual(report["layers"][1]["blocks_of_token"], sum(map(len, lists)) / 400)
        unions = [len({b for t in range(first, first + 4) for b in lists[2 * t + g]}) for first in range(0, 200, 4) for g in (0, 1)]
        self.assertAlmostEqual(report["layers"][1]["distinct_of_4"], sum(unions) / len(unions))
        self.assertIn(f" {report['layers'][1]['distinct_of_4']:.2f} ", out)
        for pattern, arguments in ((r"--layer 2: must be one of the model's 2 layers", ("nsa", "--layer", "2")),
                                   (r"--length 9999999: validation set held_out has \d+ tokens", ("nsa", "--length", "9999999")),
                                   (r"the model has no sparse attention", ("full",))):
            self.not_evaluated(2, pattern, "selection", self.root / arguments[0], *arguments[1:])

    def test_context(self):
        whole = self.evaluate("loss", "nsa", "--length", "256", "--targets-from", "64")[1]["sets"]
        out, report = self.evaluate("loss", "nsa", "--length", "256", "--targets-from", "64", "--context", "64")
        cut = report["sets"]
        self.assertIn("pieces of up to 256 tokens, scored from position 64 on; each token sees 32 to 63 tokens before it", out)
        for a, b in zip(whole, cut):
            self.assertEqual(a["total"]["tokens"], b["total"]["tokens"])
            self.assertNotEqual(a["total"]["loss"], b["total"]["loss"])
            for x, y in zip(a["by_position"], b["by_position"], strict=True):
                self.assertEqual((x["from"], x["tokens"], x["bytes"]), (y["from"], y["tokens"], y["bytes"]))
        # A context that no document exceeds changes nothing: positions 64 to 127 see 64 tokens or more, all there are.
        same = self.evaluate("loss", "full", "--length", "128", "--targets-from", "64")[1]["sets"]
        all_of_it = self.evaluate("loss", "full", "--length", "128", "--targets-from", "64", "--context", "128")[1]["sets"]
        self.assertAlmostEqual(same[0]["total"]["loss"], all_of_it[0]["total"]["loss"], delta=1e-5)

    def test_overrides_and_steps(self):
        plain = self.evaluate("loss", "full", "--samples", "4")[1]
        out, stretched = self.evaluate("loss", "full", "--samples", "4", "--set", "model.yarn.factor=4", "--set",
                                       "model.yarn.original_length=128")
        self.assertIn("model.yarn.factor=4", out)
        self.assertEqual(stretched["set"], ["model.yarn.factor=4", "model.yarn.original_length=128"])
        self.assertNotEqual(plain["sets"][0]["total"]["loss"], stretched["sets"][0]["total"]["loss"])
        earlier = self.evaluate("loss", "full", "--samples", "4", "--step", "6")[1]
        self.assertEqual(earlier["step"], 6)
        self.assertNotEqual(plain["sets"][0]["total"]["loss"], earlier["sets"][0]["total"]["loss"])

    def test_needle(self):
        options = ("--lengths", "160,256", "--depths", "0,50,100", "--trials", "2")
        out, report = self.evaluate("needle", "nsa", *options)
        self.assertEqual([(c["length"], c["depth"], c["trials"]) for c in report["cells"]],
                         [(n, d, 2) for n in (160, 256) for d in (0, 50, 100)])
        self.assertEqual(report["layers"], [0, 1])
        self.assertEqual(report["haystack"], "held_out")
        for cell in report["cells"]:
            self.assertEqual([len(layer) for layer in cell["selected"]], [2, 2])
        self.assertIn("a list holds 4 of 16 blocks", out)
        self.assertEqual(report, self.evaluate("needle", "nsa", *options)[1])
        out, report = self.evaluate("needle", "full", *options)
        self.assertNotIn("selected", out)
        self.assertNotIn("selected", report["cells"][0])

    def test_answers(self):
        problems, training = self.root / "problems" / "heldout.jsonl", self.root / "problems" / "train.jsonl"
        out, report = self.evaluate("answers", "nsa", problems, "--limit", "8,20", "--constant-from", training)
        self.assertEqual([(s["task"], s["level"], s["limit"], s["problems"]) for s in report["scores"]],
                         [(t, n, limit, 5) for t in ("addition", "modular_chain") for n in (1, 2) for limit in (8, 20)])
        self.assertIn(f"the most frequent answer of the task and level in {training}", out)
        for score in report["scores"]:
            self.assertLessEqual(score["mean_tokens"], score["limit"])
        lines = [json.loads(line) for line in (self.root / "nsa" / "eval" / "answers.jsonl").read_text().splitlines()]
        self.assertEqual([line["user"] for line in lines],
                         [json.loads(line)["messages"][0]["content"] for line in problems.read_text().splitlines()])
        for line in lines:
            self.assertEqual([a["limit"] for a in line["attempts"]], [8, 20])
            self.assertFalse(line["attempts"][0]["correct"])
        # The same texts whatever the batch, and sampled ones for the same seed.
        for batch in ("1", "7"):
            sampled = ("--limit", "20", "--temperature", "1", "--seed", "5", "--batch", batch, "--problems", "6")
            self.evaluate("answers", "nsa", problems, *sampled)
            texts = [json.loads(line)["text"] for line in (self.root / "nsa" / "eval" / "answers.jsonl").read_text().splitlines()]
            self.assertEqual(len(texts), 6)
            first = texts if batch == "1" else first
            self.assertEqual(texts, first)
        output = self.root / "elsewhere" / "a.json"
        self.must("eval", "answers", self.root / "full", problems, "--limit", "4", "--problems", "2", "--output", output)
        self.assertEqual(json.loads(output.read_text())["problems"], str(problems))
        self.assertEqual(len(output.with_suffix(".jsonl").read_text().splitlines()), 2)

    def test_errors(self):
        run, problems = self.root / "nsa", self.root / "problems" / "train.jsonl"
        self.not_evaluated(4, r"absent/checkpoints", "loss", self.root / "absent")
        self.not_evaluated(2, r"--context 63: must be even", "loss", run, "--context", "63")
        self.not_evaluated(2, r"--targets-from 10: must be at least half the context, 32", "loss", run, "--context", "64",
                     "--targets-from", "10")
        self.not_evaluated(2, r"model\.widht: unknown key", "loss", run, "--set", "model.widht=3")
        self.not_evaluated(4, r"step 5", "loss", run, "--step", "5")
        self.not_evaluated(2, r"--sets absent: not in data.validation, which has \w+", "loss", run, "--sets", "absent")
        self.not_evaluated(2, r"--depths 101", "needle", run, "--depths", "101")
        self.not_evaluated(2, r"--lengths 20: needle and question alone have \d+ tokens", "needle", run, "--lengths", "20")
        self.not_evaluated(2, r"--chat mistral: unknown template", "answers", run, problems, "--chat", "mistral")
        self.not_evaluated(2, r"limits must be ascending", "answers", run, problems, "--limit", "8,4")
        self.not_evaluated(3, r"none\.jsonl: cannot open", "answers", run, self.root / "none.jsonl")
        broken = self.root / "broken.jsonl"
        broken.write_text(problems.read_text().replace('"answer":"', '"answer":"9 ', 1))
        self.not_evaluated(3, r'broken\.jsonl:1: "answer" does not solve the problem', "answers", run, broken)


if __name__ == "__main__":
    main()
