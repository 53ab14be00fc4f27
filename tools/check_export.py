#!/usr/bin/env python3
"""Loads a folder of `lacuna export` with PyTorch and transformers and compares it with parity_probe.json, the trainer's own numbers.

  python3 -m venv venv && venv/bin/pip install torch transformers
  venv/bin/python tools/check_export.py exported/my_model

A Glm4Moe folder is loaded by transformers' own code, nsa_moe by the code in the folder (trust_remote_code). Weights are widened to f32.
Exit code 0: logits within --limit and greedy continuations identical, alone and in a left-padded batch; 1: not; 2: cannot be loaded.

Sparse attention is computed on the blocks that the trainer selected, since another block that ties is another result. The folder's code
selects as well: a list that differs from the trainer's must be a tie, scores of what was taken and left apart by at most --tie of them.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# Code of a folder is copied here before it is imported.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="lacuna_check_")

try:
    import torch
    import transformers
except ImportError as error:
    sys.exit(f"check_export: {error}; install torch and transformers, see --help")


class Table:
    """Rows of (what, found, allowed, ok), printed as they come."""

    def __init__(self):
        self.ok = True

    def add(self, what, found, allowed, ok):
        print(f"  {what:<44} {found:>14}  {allowed:<20} {'ok' if ok else 'FAILED'}", flush=True)
        self.ok = self.ok and ok


class TrainersBlocks:
    """Stands between a sparse model and its choice of blocks: follows the trainer's lists, and compares them with what the model would choose."""

    # Of a score; what is less no head looks at.
    NOTHING = 1e-30

    def __init__(self, model):
        self.rows = []  # of the batch: {"first": token, "blocks": [layers][tokens][G][n]} or None
        self.compared = self.differ = 0
        self.gap = 0.0  # the largest of the differing choices, relative to the score
        self.layers = [layer.self_attn for layer in model.model.layers if hasattr(layer.self_attn, "select")]
        for index, attention in enumerate(self.layers):
            self.wrap(index, attention)

    def follow(self, rows):
        self.rows = [row and {"first": row["first"], "blocks": torch.tensor(row["blocks"])} for row in rows]

    def wrap(self, index, attention):
        forward, attend_row, select = attention.forward, attention.attend_row, attention.select
        row = -1

        def counted_forward(*arguments, **keywords):
            nonlocal row
            row = -1
            return forward(*arguments, **keywords)

        def counted_row(*arguments, **keywords):
            nonlocal row
            row += 1
            return attend_row(*arguments, **keywords)

        def given(p, t, blocks):
            own = select(p, t, blocks)
            return self.replace(attention.nsa, index, self.rows[row], p, t, own)

        attention.forward, attention.attend_row, attention.select = counted_forward, counted_row, given

    def replace(self, nsa, index, given, p, t, own):
        if given is None:
            return own
        at = t - given["first"]
        known = (at >= 0) & (at < given["blocks"].shape[1])
        lists = given["blocks"][index, at[known]]
        theirs = torch.zeros_like(own[known]).scatter_(2, lists, True)
        self.compare(nsa, p[known], own[known], theirs)
        chosen = own.clone()
        chosen[known] = theirs
        return chosen

    def compare(self, nsa, p, own, theirs):
        """p [c, G, R, Tc], own and theirs [c, G, blocks]."""
        self.compared += own[..., 0].numel()
        differ = (own != theirs).any(-1)
        if not differ.any():
            return
        self.differ += int(differ.sum())
        pieces = nsa["select_block"] // nsa["compress_stride"]
        row = torch.arange(p.shape[3])
        scores = torch.zeros(*own.shape, dtype=torch.float64)
        for k in range(nsa["compress_block"] // nsa["compress_stride"]):
            scores.index_add_(2, (row + k) // pieces, p.double().sum(2))
        only_own, only_theirs = (own & ~theirs)[differ], (theirs & ~own)[differ]
        best = scores[differ].masked_fill(~only_own, 0.0).amax(-1)
        worst = scores[differ].masked_fill(~only_theirs, float("inf")).amin(-1)
        same_number = only_own.sum(-1) == only_theirs.sum(-1)
        gap = ((best - worst) / best.clamp(min=self.NOTHING)).masked_fill(~same_number, float("inf"))
        self.gap = max(self.gap, gap.max().item())

    def report(self, tie, table):
        if self.layers:
            table.add(f"lists of blocks that differ, of {self.compared:,}", self.differ, "any", True)
            table.add("  scores of what they took and left, relative", f"{self.gap:.1e}", f"{tie:g}", self.gap <= tie)


def load(folder, table):
    config = json.loads((folder / "config.json").read_text())
    remote = "auto_map" in config
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, trust_remote_code=remote, output_loading_info=True
    )
    print(f"{folder}: {type(model).__name__}, {'code of the folder' if remote else 'code of transformers'} {transformers.__version__}, torch {torch.__version__}")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, info[kind]))
        table.add(kind.replace("_", " "), len(keys), "0", not keys)
        if keys:
            print(f"    {', '.join(keys[:6])}")
    return model.eval()


def check_rope(model, folder, table):
    """The frequencies that the library resolved, against those that export_report.json says the trainer has."""
    expected = json.loads((folder / "export_report.json").read_text())["rope"]
    rotary = model.model.rotary_emb if hasattr(model.model, "rotary_emb") else model.model.rotary_table
    found = torch.as_tensor(rotary.inv_freq if hasattr(rotary, "inv_freq") else rotary.inverse_frequencies)
    scale = getattr(rotary, "attention_scaling", None) or rotary.attention_factor
    difference = (found.double() / torch.tensor(expected["inverse_frequencies"], dtype=torch.float64) - 1).abs().max().item()
    table.add("rotary frequencies, relative difference", f"{difference:.1e}", "1e-6", difference <= 1e-6)
    table.add("attention factor", f"{scale:.6f}", f"{expected['attention_factor']:.6f}", abs(scale - expected["attention_factor"]) < 1e-6)


def check_logits(model, probe, limit, table, blocks):
    blocks.follow([probe.get("selected")])
    ids = torch.tensor([probe["token_ids"]])
    expected = torch.tensor(probe["logits"], dtype=torch.float64)

    def compare(what, logits):
        found = logits.double()[probe["positions"]][:, probe["vocabulary_ids"]]
        difference = (found - expected).abs().max().item()
        table.add(what, f"{difference:.1e}", f"{limit:g}", difference <= limit)

    with torch.no_grad():
        compare("logits, no attention_mask", model(ids).logits[0])
        # As evaluation harnesses score a batch of different lengths: padding on the right, no mask.
        padded = torch.cat([ids, torch.zeros(1, 7, dtype=torch.long)], 1)
        compare("logits, right padding without a mask", model(padded).logits[0, : ids.shape[1]])
        compare("logits, without a cache", model(ids, use_cache=False).logits[0])
        for pads in (1, 5):
            left = torch.cat([torch.zeros(1, pads, dtype=torch.long), ids], 1)
            mask = torch.ones_like(left)
            mask[:, :pads] = 0
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            compare(f"logits, {pads} columns of left padding", model(left, attention_mask=mask, position_ids=positions).logits[0, pads:])
        cut = ids.shape[1] * 2 // 3
        if cut > 0:
            first = model(ids[:, :cut], use_cache=True)
            cache = first.cache if "cache" in first else first.past_key_values
            compare("logits, in two parts with a cache", torch.cat([first.logits[0], model(ids[:, cut:], past_key_values=cache).logits[0]]))
        code = sys.modules[type(model).__module__]
        if hasattr(code, "_SCORES"):
            whole, code._SCORES = code._SCORES, 1 << 12
            compare("logits, queries in small chunks", model(ids).logits[0])
            code._SCORES = whole


def generate(model, ids, mask, count, use_cache=True):
    out = model.generate(ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False, temperature=None, top_p=None,
                         use_cache=use_cache, eos_token_id=-1, pad_token_id=0)
    return out[:, ids.shape[1]:].tolist()


def check_greedy(model, probe, table, blocks):
    cases = probe["greedy"]
    count = len(cases[0]["continuation"])

    def compare(what, found, case):
        same = next((i for i, (a, b) in enumerate(zip(found, case["continuation"])) if a != b), count)
        table.add(what, f"{same} of {count}", "all the same", same == count)

    for use_cache in (True, False):
        for case in cases:
            ids = torch.tensor([case["prompt"]])
            blocks.follow([case.get("selected")])
            found = generate(model, ids, torch.ones_like(ids), count, use_cache)[0]
            compare(f"greedy, prompt of {ids.shape[1]}{'' if use_cache else ', no cache'}", found, case)
    blocks.follow([case.get("selected") for case in cases])
    longest = max(len(case["prompt"]) for case in cases)
    for extra in (0, 3):
        width = longest + extra
        ids = torch.zeros(len(cases), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, case in enumerate(cases):
            ids[row, width - len(case["prompt"]):] = torch.tensor(case["prompt"])
            mask[row, width - len(case["prompt"]):] = 1
        for case, found in zip(cases, generate(model, ids, mask, count)):
            compare(f"greedy, left-padded batch, {width - len(case['prompt'])} pads", found, case)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=1e-3, help="of the difference of logits (default: %(default)s)")
    parser.add_argument("--tie", type=float, default=1e-4, help="of scores of blocks, relative (default: %(default)s)")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    table = Table()
    try:
        probe = json.loads((arguments.folder / "parity_probe.json").read_text())
        model = load(arguments.folder, table)
    except (OSError, ValueError, TypeError) as error:
        print(f"check_export: {arguments.folder}: {error}", file=sys.stderr)
        return 2
    check_rope(model, arguments.folder, table)
    blocks = TrainersBlocks(model)
    check_logits(model, probe, arguments.limit, table, blocks)
    check_greedy(model, probe, table, blocks)
    blocks.report(arguments.tie, table)
    print("ok" if table.ok else "FAILED")
    return 0 if table.ok else 1


if __name__ == "__main__":
    sys.exit(main())
