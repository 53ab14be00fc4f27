#!/usr/bin/env python3
"""lacuna bench cpu as a user runs it, and what lacuna bench cuda refuses. Usage: bench_command_test.py PROGRAM [TEST ...]"""
import os

from support import SOURCE, ProgramTest, main

PEER = """#!/usr/bin/env python3
import json, sys
c = json.loads(sys.argv[2])
assert c["width"] == 32 and c["tokens"] == 96 and c["threads"] == 1, c
print("a warning of some library", file=sys.stderr)
print(json.dumps({"seconds": [0.5] * c["steps"], "torch": "9.9", "parameters": 1234}))
"""


class Bench(ProgramTest):
    def bench(self, *options):
        return ("bench", "cpu", self.recipe("bench"), "--lengths", "64,128", "--steps", 1, "--threads", 1, *options)

    def script(self, name, text):
        path = self.root / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def test_tables(self):
        done = self.lacuna(*self.bench())
        number = r"+[\d,.]+"
        self.assertRegex(done.stdout, rf"\A1 threads, matrix products of f32 at {number} GFLOP/s; recipe \S+bench\.yaml\n\n"
                         r"Full-attention model, one document of 96 tokens a step, median of 1 steps\n"
                         rf"  Lacuna {number} ms {number} tok/s {number} GFLOP/s {number} % of matmul\n"
                         r"  PyTorch: not measured \(--pytorch PYTHON [^\n]+\)\n\n"
                         r"Step time by length, ms [^\n]+\n"
                         r"  +tokens +full +NSA recipe +speed-up +NSA paper +speed-up\n"
                         rf"  +64 {number} {number} {number}x {number} {number}x\n"
                         rf"  +128 {number} {number} {number}x {number} {number}x\n\Z")
        self.assertEqual(done.stderr, "")

    def test_peer(self):
        """A stand-in for PyTorch: what it is asked and how its answer is shown."""
        done = self.lacuna(*self.bench("--pytorch", self.script("peer.py", PEER)))
        self.assertRegex(done.stdout, r"\n  PyTorch 9\.9 +500\.0 ms +192 tok/s ")
        self.assertRegex(done.stdout, r"\n  Lacuna / PyTorch: [\d.]+x tokens/s \([\d,]+ and 1,234 parameters\)\n")
        self.assertEqual(done.stderr, "")

    def test_refusals(self):
        done = self.refused(2, r"--pytorch /none/python: must be a Python with torch that runs \S+; it ended with: .*not found",
                            *self.bench("--pytorch", "/none/python"))
        self.assertNotIn("Lacuna", done.stdout)  # nothing was measured in vain
        no_torch = self.script("no_torch.sh", "#!/bin/sh\necho Traceback >&2\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
        self.refused(2, r"--pytorch \S+no_torch\.sh: .*; it ended with: ModuleNotFoundError: No module named 'torch'", *self.bench("--pytorch", no_torch))
        silent = self.script("silent.sh", "#!/bin/sh\necho 3\n")
        self.refused(2, r"--pytorch \S+silent\.sh: .*; it ended with: 3", *self.bench("--pytorch", silent))
        self.refused(2, r"\S+none\.yaml: cannot read: No such file", "bench", "cpu", self.root / "none.yaml")
        for option, value in (("--lengths", 0), ("--lengths", "64,-1"), ("--steps", 0), ("--threads", 0)):
            self.refused(2, rf"command line: .*{option}", *self.bench(option, value))

    def test_cuda_without_a_card(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.addCleanup(os.environ.pop, "CUDA_VISIBLE_DEVICES")
        done = self.refused(2, r"bench cuda: (this build has no CUDA backend \(configure with -DLACUNA_CUDA=ON\)|no CUDA card is seen by this build and driver)$",
                            "bench", "cuda")
        self.assertEqual(done.stdout, "")
        for option, value in (("--steps", 0), ("--tokens", 1), ("--lengths", "64,1"), ("--routing", "round"), ("--ops", "all")):
            self.refused(2, rf"command line: .*({option}|{value})", "bench", "cuda", option, value)

    def test_the_defaults_are_in_the_source_tree(self):
        for command, paths in (("cpu", ("recipes/quickstart_full.yaml", "tools/pytorch_twin.py")),
                               ("cuda", ("recipes/nsa_27b/pretrain_8k.yaml", "tools/bench_torch.py"))):
            help_text = self.lacuna("bench", command, "--help").stdout
            for path in paths:
                self.assertIn(path, help_text)
                self.assertTrue((SOURCE / path).is_file())


if __name__ == "__main__":
    main()
