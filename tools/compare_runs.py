#!/usr/bin/env python3
"""Held-out losses of runs side by side, from their metrics.jsonl; and whether steps that a resume repeated came out the same.

  python3 tools/compare_runs.py runs/quickstart_nsa runs/quickstart_full

The --require/--most options turn a finding into an error (exit code 1).
"""
import argparse
import json
import pathlib
import re
import sys


class Run:
    def __init__(self, folder):
        self.name = pathlib.Path(folder).name
        self.losses, self.evaluations, self.events, self.repeated, self.changed = {}, {}, [], [], []
        self.seconds = 0.0
        for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that a kill cut short
                continue
            step = entry["step"]
            if "loss" in entry:
                if step in self.losses:
                    self.repeated.append(step)
                    if self.losses[step] != entry["loss"]:
                        self.changed.append((step, self.losses[step], entry["loss"]))
                self.losses[step] = entry["loss"]
                self.seconds += entry["target_tokens"] / entry["tokens_per_second"]
            elif "evaluation" in entry:
                self.evaluations[step] = entry["evaluation"]
            elif "event" in entry:
                self.events.append(entry)

    def unigram(self):
        found = (re.fullmatch(r"(.+): ([\d.]+) bits/byte", e["message"]) for e in self.events if e["event"] == "unigram_baseline")
        return {m.group(1): float(m.group(2)) for m in found if m}


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(str(cell).ljust(w) if i == 0 else str(cell).rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs; the first is the one in question, the second its baseline")
    parser.add_argument("--require-repeated-steps", action="store_true", help="the first run must have been resumed, with equal losses")
    parser.add_argument("--most-of-unigram", type=float, help="largest share of the unigram model's bits per byte")
    parser.add_argument("--most-apart", type=float, help="largest amount by which the first run's loss may exceed the second's, as a share")
    options = parser.parse_args()
    runs, failures = [Run(folder) for folder in options.runs], []

    for run in runs:
        if run.repeated:
            verdict = f"{len(run.changed)} with another loss" if run.changed else "all with the same loss, bit for bit"
            print(f"{run.name}: resumed; {len(run.repeated)} steps repeated ({min(run.repeated)} to {max(run.repeated)}), {verdict}")
        for step, before, after in run.changed[:5]:
            failures.append(f"{run.name}: step {step} had loss {before!r}, repeated {after!r}")
    if options.require_repeated_steps and not runs[0].repeated:
        failures.append(f"{runs[0].name}: no step was repeated, so nothing shows that a resume is exact")

    last = [run.evaluations[max(run.evaluations)] for run in runs]
    unigram = runs[0].unigram()
    print("\nheld out, at the last step")
    rows = [["", *(f"{run.name} loss" for run in runs), *(f"{run.name} bits/byte" for run in runs), "unigram bits/byte", "of unigram"]]
    for name in last[0]:
        share = last[0][name]["bits_per_byte"] / unigram[name] if name in unigram else float("nan")
        rows.append([name, *(f"{e[name]['loss']:.4f}" for e in last), *(f"{e[name]['bits_per_byte']:.4f}" for e in last),
                     f"{unigram.get(name, float('nan')):.4f}", f"{share:.3f}"])
        if options.most_of_unigram is not None and not share <= options.most_of_unigram:
            failures.append(f"{name}: {share:.3f} of the unigram model's bits per byte, at most {options.most_of_unigram} allowed")
    table(rows)
    if len(runs) > 1:
        totals = [sum(e[n]["loss"] * e[n]["tokens"] for n in e) / sum(e[n]["tokens"] for n in e) for e in last]
        apart = totals[0] / totals[1] - 1
        print(f"\nall sets: {runs[0].name} {totals[0]:.4f}, {runs[1].name} {totals[1]:.4f} nats a token: "
              f"{abs(apart) * 100:.2f} % {'above' if apart > 0 else 'below'}")
        if options.most_apart is not None and not apart <= options.most_apart:
            failures.append(f"{runs[0].name} is {apart * 100:.2f} % above {runs[1].name}, at most {options.most_apart * 100:g} % allowed")
    for run in runs:
        print(f"{run.name}: {max(run.losses)} steps, {run.seconds:.0f} s of steps")
    for failure in failures:
        print(f"compare_runs: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
