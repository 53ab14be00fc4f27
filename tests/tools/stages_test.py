#!/usr/bin/env python3
"""Stages of a training plan as a user runs them: starting from another run's model, the order of the data, edited mixes.

Usage: stages_test.py PROGRAM MPIEXEC [TEST ...]
"""
import random
import re

from support import changed, escaped, main
from train_support import TrainTest


class InitFrom(TrainTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.must("train", cls.recipe("first"))

    def stage(self, name, *pairs, path="first", load="weights"):
        init = f"\ninit_from: {{path: {self.root / path}, load: {load}}}\nmodel:"
        return self.recipe(name, changed(("\nmodel:", init), *pairs))

    def test_weights_and_context_extension(self):
        longer = (("rotary_dims: 4", "rotary_dims: 4\n  yarn: {factor: 4, original_length: 96}"), ("sequence_length: 96", "sequence_length: 384"))
        done = self.train(1, self.stage("extended", *longer))
        self.assertRegex(done.stdout, r"starts from the weights of \S+/first/checkpoints/step_12 \(step 12, [\d,]+ tokens\)")
        self.assertIn("model.yarn.factor: 1.0 there, 4.0 here", done.stdout)
        self.assertIn("YaRN factor 4 from 96 to 384 tokens: cos and sin times 1.13863", done.stdout)
        scratch = self.train(1, self.recipe("scratch", changed(*longer)))
        self.assertNotIn("starts from", scratch.stdout)
        self.assertLess(self.losses("extended")[1][0][0], 0.8 * self.losses("scratch")[1][0][0])

    def test_a_checkpoint_by_its_folder(self):
        done = self.train(1, self.stage("from_step", path="first/checkpoints/step_8/"))
        self.assertRegex(done.stdout, r"starts from the weights of \S+/step_8 ")

    def test_optimizer_is_taken_over_when_asked(self):
        """The moments change the first update: from the same weights and data, the second step's loss differs."""
        self.train(1, self.stage("bare"))
        done = self.train(1, self.stage("moments", load="weights_and_optimizer"))
        self.assertIn("starts from the weights and optimizer of", done.stdout)
        bare, moments = self.losses("bare"), self.losses("moments")
        self.assertEqual(bare[1][0], moments[1][0])
        self.assertNotEqual(bare[2][0][0], moments[2][0][0])

    def test_any_number_of_ranks(self):
        f64 = ("log_every: 1", "log_every: 1\n  dtype: f64")
        self.train(2, self.recipe("wide", changed(f64)))
        for ranks in (1, 2):
            self.train(ranks, self.stage(f"ranks{ranks}", f64, path="wide"))
        one, two = self.losses("ranks1"), self.losses("ranks2")
        for step in one:
            self.assertAlmostEqual(one[step][0][0], two[step][0][0], delta=1e-11)

    def test_a_resumed_stage_keeps_its_own_weights(self):
        recipe = self.stage("interrupted")
        self.train_until(1, recipe, 5)
        done = self.train(1, recipe, "--resume")
        self.assertNotIn("starts from", done.stdout)
        self.assertIn("resumed from step", done.stdout)
        whole = self.train(1, self.stage("whole"))
        self.assertEqual(self.state(done, 12), self.state(whole, 12))

    def test_refused(self):
        where = escaped(self.root / "first/checkpoints/step_12")
        wider = self.train(1, self.stage("wider", ("width: 32", "width: 48")), expect=4)
        self.assertRegex(wider.stderr, rf"lacuna: {where}: does not fit the run, \d+ tensors differ:\n"
                                       r"  model/embed_tokens\.weight: f32 \[320, 32\] in the checkpoint, f32 \[320, 48\] in the run\n")
        dense = self.train(1, self.stage("dense", ("attention: nsa", "attention: full")), expect=4)
        self.assertRegex(dense.stderr, r"model/layers\.0\.self_attn\.k_proj\.weight: not in the checkpoint, f32")
        self.assertRegex(dense.stderr, r"model/layers\.0\.self_attn\.cmp_k_proj\.weight: f32 \[16, 32\] in the checkpoint, not in the run")
        self.refused(4, r"init_from\.path = \S+/nowhere: No such file", "train", self.stage("lost", path="nowhere"))
        self.refused(4, r"init_from\.path = \S+/data: holds no checkpoint", "train", self.stage("astray", path="data"))
        other = self.root / "other.json"
        self.lacuna("tokenizer", "train", self.root / "text", "--vocab-size", "320", "--special", "<|endoftext|>", "--output", other)
        self.lacuna("prepare", self.root / "text", "--tokenizer", other, "--output", self.root / "other", "--holdout", "validation=0.1")
        recipe = self.stage("stranger", (str(self.data / "tokenizer.json"), str(other)), (f"{self.data}/train", f"{self.root}/other/train"),
                            (f"{self.data}/validation", f"{self.root}/other/validation"))
        self.refused(4, rf"{where}: was trained with tokenizer [0-9a-f]{{16}}, data\.tokenizer = {escaped(other)} is", "train", recipe)


class DataOrder(TrainTest):
    """Every step has the samples that it has on one rank without a stop, whatever the ranks and stops."""

    two_sources = ('    - {name: a, path: "', '    - {name: b, path: "%s/validation*.h5", weight: 0.5}\n    - {name: a, path: "')

    def order(self, name):
        return {step: {e["data_hash"] for e in entries} for step, entries in self.steps(name).items()}

    def check(self, name, change):
        self.train(1, self.recipe(f"{name}_whole", change))
        recipe = self.recipe(f"{name}_stopped", change)
        rng = random.Random(name)
        stops = sorted(rng.sample(range(1, 12), 3))
        for ranks, step in zip(rng.sample((1, 2, 4), 3), stops):
            self.train_until(ranks, recipe, step, "--resume")
        self.train(rng.choice((1, 2, 4)), recipe, "--resume")
        whole, stopped = self.order(f"{name}_whole"), self.order(f"{name}_stopped")
        self.assertEqual(sorted(whole), list(range(1, 13)))
        self.assertEqual(stopped, whole)
        self.assertEqual(len(set.union(*whole.values())), 12)

    def test_pretraining_with_a_batch_warm_up_and_two_sources(self):
        sources = (self.two_sources[0], self.two_sources[1] % self.data)
        self.check("pretrain", changed(sources, ("global_batch: 4", "global_batch: 8\n  batch_warmup:\n    - {steps: 3, global_batch: 4}")))
        samples = [e["sources"] for e in self.entries("pretrain_whole") if "sources" in e]
        self.assertEqual(sum(s["samples"] for s in samples[2].values()), 12)
        self.assertEqual(sum(s["samples"] for s in samples[-1].values()), 12 + 9 * 8)

    def test_extension(self):
        self.train(1, self.recipe("base"))
        init = f"\ninit_from: {{path: {self.root / 'base'}}}\nmodel:"
        self.check("extend", changed(("\nmodel:", init), ("seed: 3", "seed: 3, stage: extend"), ("sequence_length: 96", "sequence_length: 192"),
                                     ("weight: 1.0}", "weight: 1.0}\n  packing: best_fit")))

    def test_whole_documents(self):
        self.check("whole", changed(("seed: 3", "seed: 3, stage: sft"), ("weight: 1.0}", "weight: 1.0}\n  packing: whole"),
                                    ("sequence_length: 96", "sequence_length: 1024")))

    def test_a_stage_has_an_order_of_its_own(self):
        self.train(1, self.recipe("one"))
        self.train(1, self.recipe("other", changed(("seed: 3", "seed: 3, stage: other"))))
        self.assertNotEqual(self.order("one")[1], self.order("other")[1])

    def test_an_edited_mix(self):
        sources = (self.two_sources[0], self.two_sources[1] % self.data)
        recipe = self.recipe("edited", changed(sources))
        self.train_until(1, recipe, 4)
        before = [e for e in self.entries("edited") if "sources" in e][-1]["sources"]
        recipe = self.recipe("edited", changed(sources, ("weight: 0.5", "weight: 9.0")))
        done = self.train(2, recipe, "--resume")
        self.assertRegex(done.stdout, r"from sample \d+ on the mix is a 10 %, b 90 %; before, a 66\.67 %, b 33\.33 %")
        after = [e for e in self.entries("edited") if "sources" in e][-1]["sources"]
        self.assertEqual(sum(s["samples"] for s in after.values()), 48)
        gained = {name: after[name]["samples"] - before[name]["samples"] for name in after}
        self.assertGreater(gained["b"], 4 * gained["a"])
        self.assertTrue(any(e.get("event") == "mix" for e in self.entries("edited")))

    def test_what_would_repeat_or_lose_data_is_refused(self):
        self.train_until(1, self.recipe("fixed"), 3)
        for key, value in (("train.sequence_length", "64"), ("run.seed", "4"), ("run.stage", "later"), ("data.packing", "best_fit")):
            done = self.train(1, self.root / "fixed.yaml", "--resume", "--set", f"{key}={value}", "--allow", key, expect=4)
            self.assertRegex(done.stderr, rf"{re.escape(key)}: \S+ in the checkpoint, {value} in the recipe; cannot be allowed")


if __name__ == "__main__":
    main(own_arguments=2)
