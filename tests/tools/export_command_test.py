#!/usr/bin/env python3
"""lacuna export and lacuna import as a user runs them. Usage: export_command_test.py PROGRAM [--pytorch PYTHON] [TEST ...]

Given an interpreter with PyTorch and transformers, the exported folders are also loaded there (tools/check_export.py).
"""
import array
import json
import re
import shutil
import subprocess
import sys
import unittest

from support import SOURCE, ProgramTest

ARGUMENTS = sys.argv[2:]
PYTORCH = None
if ARGUMENTS[:1] == ["--pytorch"]:
    PYTORCH, ARGUMENTS = ARGUMENTS[1], ARGUMENTS[2:]

# A large init_std: differences show in the logits, and greedy text is no repetition.
RECIPE = """
run: {{name: tiny, dir: {dir}, seed: 3}}
model:
  attention: {attention}
  num_layers: 3
  num_dense_layers: 1
  width: 32
  vocab_size: 320
  num_heads: 4
  num_groups: 2
  head_dim_qk: 12
  head_dim_v: 8
  rotary_dims: 4
  dense_width: 48
  init_std: 0.4
{model}
nsa: {{block: 8, stride: 4, select_block: 8, num_selected: 4, num_init: 1, num_local: 2, window: 12}}
moe: {{num_experts: 6, experts_per_token: 2, expert_width: 16, num_shared: 2, routed_scale: 1.5{moe}}}
data:
  tokenizer: {data}/tokenizer.json
  sources: [{{name: a, path: "{data}/train*.h5", weight: 1.0}}]
  validation: [{{name: held_out, path: "{data}/validation*.h5"}}]
  cache: {data}/index
optimizer: {{learning_rate: 1e-3, warmup_steps: 1}}
train: {{sequence_length: 96, micro_batch: 1, global_batch: 2, steps: 3, threads: 1, eval_samples: 1}}
"""
YARN = "  yarn: {factor: 4, original_length: 48, beta_fast: 4, beta_slow: 0.5}\n"
# name: attention, lines of section model, keys of moe
RUNS = {
    "full": ("full", YARN + "  tie_embeddings: true\n", ""),
    "full_norm": ("full", "  qk_norm: true\n", ", normalize_weights: false"),
    "full_softmax": ("full", "", ", router: softmax"),
    "nsa": ("nsa", "", ""),
    "nsa_yarn": ("nsa", YARN + "  qk_norm: true\n  tie_embeddings: true\n", ""),
}


def scale(path, suffix, factor):
    """Multiplies the f32 tensors of a safetensors file whose names end like this."""
    data = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    for name, tensor in json.loads(data[8:begin]).items():
        if name.endswith(suffix):
            first, last = (begin + offset for offset in tensor["data_offsets"])
            values = array.array("f", bytes(data[first:last]))
            data[first:last] = array.array("f", [factor * x for x in values]).tobytes()
    path.write_bytes(data)


class Base(ProgramTest):
    holdouts = ("validation=0.2",)

    @classmethod
    def run_of(cls, name):
        """The folder of a run, trained once."""
        folder = cls.root / "runs" / name
        if not folder.exists():
            attention, model, moe = RUNS[name]
            recipe = cls.root / f"{name}.yaml"
            recipe.write_text(RECIPE.format(dir=folder, data=cls.data, attention=attention, model=model, moe=moe))
            cls.must("train", recipe)
        return folder

    def export(self, name, out, *options):
        out = self.root / out
        shutil.rmtree(out, ignore_errors=True)
        return out, self.lacuna("export", self.run_of(name), out, *options).stdout


class Export(Base):
    def test_folders(self):
        common = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                  "special_tokens_map.json", "export_report.json", "parity_probe.json"}
        for name, architecture, code in (("full", "Glm4MoeForCausalLM", set()),
                                         ("nsa_yarn", "NsaMoeForCausalLM", {"configuration_nsa_moe.py", "modeling_nsa_moe.py"})):
            out, text = self.export(name, "out")
            self.assertEqual({p.name for p in out.iterdir()}, common | code)
            self.assertIn(architecture, text)
            self.assertRegex(text, r"compared on \d+ held-out tokens of validation set held_out")
            self.assertIn("attention factor 1.138629", text)
            config = json.loads((out / "config.json").read_text())
            self.assertEqual(config["architectures"], [architecture])
            self.assertEqual(config["max_position_embeddings"], 192)
            report = json.loads((out / "export_report.json").read_text())
            self.assertLess(report["folder_against_model"]["max_abs_difference"], 1e-3)
            self.assertGreater(report["rounding_of_weights"]["max_abs_difference"], 1e-3)
            self.assertEqual(len(report["tensors"]), report["tensor_count"])
            self.assertEqual((out / "tokenizer.json").read_bytes(), (self.root / "data" / "tokenizer.json").read_bytes())
            for code_file in code:
                self.assertEqual((out / code_file).read_text(), (SOURCE / "recipes/export/remote_code" / code_file).read_text())

    def test_transformers_4(self):
        out, _ = self.export("full", "out4", "--hf-compat", 4)
        text = (out / "config.json").read_text()
        self.assertIn('"rope_scaling"', text)
        self.assertNotIn("rope_parameters", text)
        self.assertRegex(text, r'"factor": 4\.0\b')

    def test_refusals(self):
        def refused(expect, pattern, *arguments):
            self.refused(expect, f".*({pattern})", *arguments)

        out, _ = self.export("nsa", "taken")
        refused(2, r"taken: is not empty; an export makes a new folder", "export", self.run_of("nsa"), out)
        new = self.root / "new"
        refused(2, r"moe\.router = softmax: .* --architecture nsa_moe exports it", "export", self.run_of("full_softmax"), new)
        refused(2, r"model\.attention = nsa: glm4_moe has full attention only", "export", self.run_of("nsa"), new, "--architecture", "glm4_moe")
        refused(4, r"no such|No such|has no checkpoint", "export", self.root / "text", new)
        refused(4, r"has no checkpoint of step 2", "export", self.run_of("nsa"), new, "--step", 2)
        refused(3, r"config\.json: cannot open: No such file", "import", self.root / "text", new)
        self.assertFalse(new.exists())
        self.assertEqual([p for p in self.root.iterdir() if ".tmp." in p.name], [])
        # The one way for a softmax router.
        self.lacuna("export", self.run_of("full_softmax"), new, "--architecture", "nsa_moe")

    def test_import(self):
        """A run, exported in f32 and imported again, says the same."""
        for name in ("full", "nsa"):
            out, _ = self.export(name, "whole", "--dtype", "f32")
            again = self.root / f"again_{name}"
            text = self.lacuna("import", out, again).stdout
            self.assertIn("checkpoints/step_0", text)
            prompts = ["-p", "sparse blocks", "-p", "gateding tokenow modse", "-n", "40", "--seed", "5"]
            self.assertEqual(self.lacuna("generate", again, *prompts).stdout, self.lacuna("generate", self.run_of(name), *prompts).stdout)
            self.lacuna("ckpt", "verify", again)
            self.lacuna("plan", again / "recipe.yaml")
            second = self.root / f"second_{name}"
            self.lacuna("export", again, second, "--dtype", "f32")
            self.assertEqual((second / "model.safetensors").read_bytes(), (out / "model.safetensors").read_bytes())
            done = self.lacuna("import", out, again, expect=2)
            self.assertIn("holds the checkpoints of a run", done.stderr)


@unittest.skipUnless(PYTORCH, "no interpreter with PyTorch was given")
class PyTorch(Base):
    def check(self, folder, expect=0):
        done = subprocess.run([PYTORCH, SOURCE / "tools" / "check_export.py", folder], capture_output=True, text=True, timeout=900)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout

    def test_glm4_moe(self):
        for name in ("full", "full_norm"):
            self.assertIn("code of transformers", self.check(self.export(name, name)[0]))
        self.check(self.export("full", "full4", "--hf-compat", 4, "--dtype", "f32")[0])

    def test_nsa_moe(self):
        for name in ("nsa", "nsa_yarn"):
            self.assertIn("code of the folder", self.check(self.export(name, name)[0]))
        self.check(self.export("full_softmax", "full_softmax", "--architecture", "nsa_moe", "--dtype", "f32")[0])

    def test_sharp_scores(self):
        """Heads that look at one compressed row give the blocks on both sides of it equal scores: lists differ by rounding, nothing else does."""
        out, _ = self.export("nsa", "plain", "--dtype", "f32")
        scale(out / "model.safetensors", "phi_k.w2.weight", 10)
        run, again = self.root / "sharp_run", self.root / "sharp"
        self.lacuna("import", out, run)
        self.lacuna("export", run, again, "--dtype", "f32")
        text = self.check(again)
        self.assertGreater(int(re.search(r"lists of blocks that differ, of [\d,]+ +(\d+)", text)[1]), 0, text)
        # Another choice is no tie.
        config = (again / "config.json").read_text()
        self.assertIn('"local_blocks": 2', config)
        (again / "config.json").write_text(config.replace('"local_blocks": 2', '"local_blocks": 1'))
        self.assertRegex(self.check(again, expect=1), r"scores of what they took and left, relative .* FAILED")

    def test_differences_are_found(self):
        out, _ = self.export("nsa", "changed")
        text = (out / "config.json").read_text()
        changed = re.sub(r'"window": 12', '"window": 13', text)
        self.assertNotEqual(changed, text)
        (out / "config.json").write_text(changed)
        self.assertIn("FAILED", self.check(out, expect=1))


if __name__ == "__main__":
    # With an interpreter only its tests run, so that no test runs twice.
    loaded = unittest.defaultTestLoader.loadTestsFromTestCase(PyTorch if PYTORCH else Export)
    if ARGUMENTS:
        loaded = unittest.defaultTestLoader.loadTestsFromNames(ARGUMENTS, sys.modules[__name__])
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(loaded).wasSuccessful())
