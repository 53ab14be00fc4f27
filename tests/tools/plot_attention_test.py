#!/usr/bin/env python3
"""tools/plot_attention.py on made-up results of lacuna bench cuda: its tables, its picture, what it refuses."""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "plot_attention.py"


def made_up():
    """Full attention grows with the square of the length, NSA with the length; no Triton at the greatest, as where it is left out."""
    rows = []
    for tokens in (1024, 2048, 4096, 8192, 16384, 32768, 65536):
        k = tokens / 1024
        for which, factor in (("fwd", 1), ("bwd", 2.5)):
            full = {"op": f"attention_{which}", "tokens": tokens, "ms": factor * 0.06 * k * k, "torch_ms": factor * 0.05 * k * k}
            full.update({"triton_left_out": "OutOfMemoryError: "} if tokens == 65536 else {"triton_ms": factor * 0.1 * k * k})
            rows.append(full)
            rows.append({"op": f"nsa_attention_core_{which}", "tokens": tokens, "ms": factor * 0.3 * k, "torch_left_out": "none",
                         "lists": {"pattern": "local"}})
    for context, read in ((8192, 2047), (65536, 5631)):
        rows.append({"op": "decode_full", "tokens": context, "bytes": context * 20480, "ms": context / 1e5})
        rows.append({"op": "decode_nsa", "tokens": context, "bytes": read * 20480, "ms": read / 0.5e5})
    rows.append({"op": "add", "tokens": 8192, "ms": 1.0})
    return {"device": "NVIDIA H100 80GB HBM3 (sm_90, 79.1 GiB)", "driver": "570.86.15", "date": "2026-11-27T01:02:03Z", "rows": rows}


class PlotAttention(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="lacuna_plot_test_")
        self.addCleanup(temp.cleanup)
        self.folder = pathlib.Path(temp.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def plot(self, *arguments):
        return subprocess.run([sys.executable, "-B", SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120)

    def test_tables(self):
        done = self.plot(self.file("a.json", made_up()))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"(?m)^forward, ms\n +tokens +NSA, Lacuna +full, Lacuna +full, PyTorch on cuDNN +full, FlashAttention-2 in Triton  speed-up$")
        self.assertRegex(done.stdout, r"(?m)^ +8,192 +2\.400 +3\.840 +3\.200 +6\.400 +1\.3x$")
        self.assertRegex(done.stdout, r"(?m)^ +65,536 +19\.200 +245\.760 +204\.800 +- +10\.7x$")
        self.assertRegex(done.stdout, r"(?m)^backward, ms\n[^\n]+\n +1,024 +0\.750 +0\.150 +0\.125 +0\.250 +0\.2x$")
        # The paper's factors of table 4.
        self.assertRegex(done.stdout, r"(?m)^ +8,192 +2,047 +167\.8 +41\.9 +4\.0x +0\.082 +0\.041 +2\.0x$")
        self.assertRegex(done.stdout, r"(?m)^ +65,536 +5,631 +1,342\.2 +115\.3 +11\.6x +0\.655 +0\.113 +5\.8x$")

    def test_files_come_together_and_the_last_one_counts(self):
        first, second = made_up(), made_up()
        first["rows"] = [row for row in first["rows"] if not row["op"].startswith("decode")]
        second["rows"] = [{**row, "ms": 2 * row["ms"]} for row in second["rows"] if row["op"].startswith("decode") or row["tokens"] == 1024]
        out = self.plot(self.file("a.json", first), self.file("b.json", second)).stdout
        self.assertRegex(out, r"(?m)^ +1,024 +0\.600 +0\.120 ")
        self.assertRegex(out, r"(?m)^ +2,048 +0\.600 +0\.240 ")
        self.assertRegex(out, r"(?m)^ +8,192 +2,047 ")

    def test_picture(self):
        data = self.file("a.json", made_up())
        picture = self.folder / "attention.svg"
        done = self.plot(data, "--output", picture)
        if importlib.util.find_spec("matplotlib") is None:
            self.assertEqual((done.returncode, done.stderr), (1, "plot_attention: needs matplotlib (pip install matplotlib)\n"))
            return
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"{picture}: NVIDIA H100 80GB HBM3 (sm_90, 79.1 GiB), driver 570.86.15, 2026-11-27\n", done.stdout)
        self.assertIn("<svg", picture.read_text()[:1000])
        first = picture.read_bytes()
        self.plot(data, "--output", picture)
        self.assertEqual(first, picture.read_bytes())

    def test_refusals(self):
        nothing = {**made_up(), "rows": [{"op": "attention_fwd", "tokens": 8, "ms": 1.0}]}
        for content, message in (("{", "not a result of lacuna bench cuda --json (JSONDecodeError"), ("[]", "not a result"), ({"rows": [{}]}, "KeyError"),
                                 (nothing, "no length has rows of full attention and of NSA")):
            done = self.plot(self.file("x.json", content))
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertTrue(done.stderr.startswith("plot_attention: "), done.stderr)
            self.assertIn(message, done.stderr)
        self.assertIn("FileNotFoundError", self.plot(self.folder / "none.json").stderr)


if __name__ == "__main__":
    unittest.main()
