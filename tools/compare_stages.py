#!/usr/bin/env python3
"""What three stages of a training plan reached, from the folders of their runs; exit code 1 where the first plan fell short.

  python3 tools/compare_stages.py runs/small_ runs/small_@_full

Each argument is what the run folders of one plan begin with: PREFIXpretrain, PREFIXextend, PREFIXsft (a suffix goes behind "@":
runs/small_@_full). The first plan is the one under test; the others are what it is compared with, and say what they miss.
Asked of a plan:
  - the held-out loss falls in every stage;
  - on the same tokens, the extended model is no worse with its long context than with it cut, and no worse than the model before;
  - its answers to held-out problems are right at least 15 points more often than the most frequent answer.
"""
import json
import pathlib
import sys

STAGES = ("pretrain", "extend", "sft")


class Plan:
    def __init__(self, argument):
        prefix, _, suffix = argument.partition("@")
        self.folders = {stage: pathlib.Path(f"{prefix}{stage}{suffix}") for stage in STAGES}
        self.name = self.folders["pretrain"].name.replace("pretrain", "").strip("_").replace("__", "_")

    def held_out(self, stage):
        """The mean loss of all held-out sets at the first and the last evaluation."""
        means, seconds = [], 0.0
        for line in (self.folders[stage] / "metrics.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if "evaluation" in entry:
                sets = entry["evaluation"].values()
                means.append(sum(s["loss"] * s["tokens"] for s in sets) / sum(s["tokens"] for s in sets))
            elif "loss" in entry:
                seconds += entry["target_tokens"] / entry["tokens_per_second"]
        return means[0], means[-1], seconds

    def read(self, stage, name):
        return json.loads((self.folders[stage] / "eval" / f"{name}.json").read_text())

    def loss(self, stage, name):
        totals = [s["total"] for s in self.read(stage, name)["sets"]]
        return sum(t["loss"] * t["tokens"] for t in totals) / sum(t["tokens"] for t in totals), sum(t["tokens"] for t in totals)


def report(plan, failures):
    print(f"\n{plan.name}")
    for stage in STAGES:
        first, last, seconds = plan.held_out(stage)
        print(f"  {stage:<10} held-out loss {first:.4f} -> {last:.4f}   {seconds:4.0f} s of steps")
        if not last < first:
            failures.append(f"{plan.name}: {stage}: the held-out loss did not fall: {first:.4f} at first, {last:.4f} at last")
    (long, tokens), (cut, cut_tokens), (before, before_tokens) = (
        plan.loss("extend", "long"), plan.loss("extend", "cut"), plan.loss("pretrain", "long"))
    if not tokens == cut_tokens == before_tokens:
        failures.append(f"{plan.name}: the losses are of {tokens}, {cut_tokens} and {before_tokens} tokens")
    print(f"  on the same {tokens:,} tokens: long context {long:.4f}, cut to {plan.read('extend', 'cut')['context']} {cut:.4f}, "
          f"before the extension {before:.4f}")
    if long > cut:
        failures.append(f"{plan.name}: the long context does not help: {long:.4f} with it, {cut:.4f} without")
    if long > before:
        failures.append(f"{plan.name}: the extension does not help: {long:.4f} with it, {before:.4f} before")
    for score in plan.read("sft", "answers")["scores"]:
        right, constant = score["correct"] / score["problems"], score["constant_correct"] / score["problems"]
        print(f"  {score['task']} level {score['level']}: {100 * right:.1f} % of {score['problems']} right, "
              f"always the most frequent answer {100 * constant:.1f} %")
        if score["problems"] < 500 or right < constant + 0.15:
            failures.append(f"{plan.name}: {score['task']}: {100 * right:.1f} % of {score['problems']} problems right, must be at least "
                            f"{100 * (constant + 0.15):.1f} % of at least 500")
    export = plan.folders["sft"] / "export" / "export_report.json"
    print(f"  exported and read back: {export.parent}" if export.exists() else f"  not exported: {export} is missing")
    if not export.exists():
        failures.append(f"{plan.name}: {export} is missing")


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    fell_short = False
    for i, argument in enumerate(sys.argv[1:]):
        failures = []
        report(Plan(argument), failures)
        for failure in failures:
            if i == 0:
                print(f"compare_stages: {failure}", file=sys.stderr)
            else:
                print(f"  missed: {failure}")
        fell_short = fell_short or (i == 0 and bool(failures))
    return 1 if fell_short else 0


if __name__ == "__main__":
    sys.exit(main())
