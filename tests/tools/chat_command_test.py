#!/usr/bin/env python3
"""Conversations as a user trains on them: prepare, train, ask. Usage: chat_command_test.py PROGRAM"""
import json
import random

from support import EmptyFolderTest, main

RECIPE = """
run: {{name: chat, dir: {root}/run, seed: 1}}
model:
  attention: full
  num_layers: 2
  num_dense_layers: 2
  width: 32
  vocab_size: 384
  num_heads: 4
  num_groups: 2
  head_dim_qk: 8
  head_dim_v: 8
  rotary_dims: 4
  dense_width: 64
data:
  tokenizer: {root}/tokenizer.json
  sources:
    - {{name: chat, path: "{root}/train*.h5"}}
  packing: best_fit
  chat_template: chatml
  cache: {root}/index
optimizer: {{learning_rate: 1e-2, warmup_steps: 3}}
train: {{sequence_length: 64, micro_batch: 4, global_batch: 4, steps: 60, threads: 1, checkpoint_every: 0, eval_every: 0}}
"""
ANSWER = "It depends on the weather."


class Chat(EmptyFolderTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rng = random.Random(1)
        words = ["who", "what", "when", "why", "where"]
        questions = [" ".join(rng.choices(words, k=rng.randint(1, 4))) + "?" for _ in range(300)]
        (cls.root / "chats.jsonl").write_text(
            "".join(json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": ANSWER}]}) + "\n" for q in questions))
        (cls.root / "text.txt").write_text((" ".join(words) + "?\n" + ANSWER + "\n") * 20)
        (cls.root / "recipe.yaml").write_text(RECIPE.format(root=cls.root))
        cls.must("tokenizer", "train", cls.root / "text.txt", "--vocab-size", "384", "--output", cls.root / "tokenizer.json")
        cls.prepared = cls.must(*cls.prepare(), "--max-tokens", "64", "--holdout", "validation=0.1").stdout
        cls.must("train", cls.root / "recipe.yaml")

    @classmethod
    def prepare(cls, template="chatml"):
        return ["prepare", cls.root / "chats.jsonl", "--chat", template, "--tokenizer", cls.root / "tokenizer.json", "--output", cls.root, "--overwrite"]

    def test_report(self):
        self.assertRegex(self.prepared, r"split +shards +conversations +tokens +in the loss +share\ntrain +1 +\d+ +\d+ +\d+ +\d+\.\d%\nvalidation +1 ")
        self.assertIn("chat: chatml history_thinking=drop loss_turns=last\nconversations: 0 of more than 64 tokens left out", self.prepared)

    def test_the_model_answers_and_stops(self):
        done = self.must("generate", self.root / "run", "--chat", "-p", "why where?", "--temperature", "0", "-n", "64")
        self.assertEqual(done.stdout, ANSWER + "\n")
        self.assertRegex(done.stderr, r"^\(\d+ tokens, the answer ended\)\n$")
        both = self.must("generate", self.root / "run", "--chat", "-p", "why?", "-p", "who?", "--temperature", "0", "-n", "64").stdout
        self.assertEqual(both, f"---- 1 of 2\n{ANSWER}\n---- 2 of 2\n{ANSWER}\n")

    def test_errors(self):
        done = self.lacuna("generate", self.root / "run", "--chat", expect=2)
        self.assertEqual(done.stderr, "lacuna: --chat: needs a --prompt, the user's message\n")
        done = self.lacuna("train", self.root / "recipe.yaml", "--set", "data.chat_template=glm", "--set", f"run.dir={self.root}/other", expect=3)
        self.assertIn("train_00000.h5: holds conversations made with chat template chatml, the recipe's is glm\n", done.stderr)
        done = self.lacuna(*self.prepare("llama3"), expect=2)
        self.assertIn("chat template llama3: the tokenizer has no added tokens <|begin_of_text|>, <|start_header_id|>", done.stderr)
        self.lacuna(*self.prepare(), "--text-key", "body", expect=2)
        done = self.lacuna("prepare", self.root / "chats.jsonl", "--tokenizer", "t", "--output", "o", "--loss-turns", "all", expect=2)
        self.assertIn("--chat", done.stderr)


if __name__ == "__main__":
    main()
