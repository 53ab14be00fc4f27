#!/usr/bin/env python3
"""Loss and speed of runs over the tokens they were trained on, from their metrics.jsonl, as one picture (needs matplotlib).

  python3 tools/plot_runs.py runs/300m_pretrain_8k runs/300m_pretrain_8k_full --output loss.svg

Thin lines are steps, thick ones their running mean, points the held-out losses. A vertical line is where a run was resumed; steps that a
resume repeated count once.
"""
import argparse
import json
import pathlib
import sys

SMOOTH = 0.9  # weight of the past in the running mean
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]  # Okabe and Ito


class Run:
    def __init__(self, folder):
        self.name = pathlib.Path(folder).resolve().name
        self.steps, self.held_out, self.resumed = {}, {}, []
        for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that a kill cut short
                continue
            if "loss" in entry:
                if self.steps and entry["step"] <= max(self.steps) and entry["step"] in self.steps:
                    if not self.resumed or self.resumed[-1][1] != entry["step"] - 1:
                        self.resumed.append([entry["step"], entry["step"]])
                    self.resumed[-1][1] = entry["step"]
                self.steps[entry["step"]] = entry
            elif "evaluation" in entry:
                self.held_out[entry["step"]] = entry["evaluation"]
        if not self.steps:
            sys.exit(f"plot_runs: {folder}: metrics.jsonl has no step")
        self.tokens, total = {0: 0}, 0
        for step in sorted(self.steps):
            total += self.steps[step]["target_tokens"]
            self.tokens[step] = total / 1e6

    def column(self, key):
        return [self.steps[step][key] for step in sorted(self.steps)]

    def at(self):
        return [self.tokens[step] for step in sorted(self.steps)]


def running_mean(values):
    out, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * value, SMOOTH * weight + 1 - SMOOTH
        out.append(mean / weight)
    return out


def held_out_points(run):
    """{set: ([tokens], [loss])}"""
    points = {}
    for step, sets in sorted(run.held_out.items()):
        for name, result in sets.items():
            tokens, losses = points.setdefault(name, ([], []))
            tokens.append(run.tokens.get(step, 0))
            losses.append(result["loss"])
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--output", required=True, help="picture to write: .svg, .png or .pdf")
    parser.add_argument("--names", help="names in the legend, with commas between them")
    options = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("plot_runs: needs matplotlib (pip install matplotlib)")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = [Run(folder) for folder in options.runs]
    if options.names:
        names = options.names.split(",")
        if len(names) != len(runs):
            sys.exit(f"plot_runs: {len(names)} names for {len(runs)} runs")
        for run, name in zip(runs, names):
            run.name = name
    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "lacuna"})
    figure, (loss, speed) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=[3, 2], layout="constrained")
    for run, colour in zip(runs, COLOURS * len(runs)):
        at = run.at()
        loss.plot(at, run.column("loss"), color=colour, alpha=0.25, linewidth=0.6)
        loss.plot(at, running_mean(run.column("loss")), color=colour, linewidth=1.6, label=f"{run.name}: training")
        for (name, (tokens, losses)), marker in zip(held_out_points(run).items(), "osD^v"):
            loss.plot(tokens, losses, color=colour, marker=marker, linestyle="none", markersize=5, label=f"{run.name}: held out, {name}")
        for first, _ in run.resumed:
            for axes in (loss, speed):
                axes.axvline(run.tokens[first], color=colour, linestyle=":", linewidth=1)
        tokens_per_second = [v / 1e3 for v in run.column("tokens_per_second")]
        speed.plot(at, tokens_per_second, color=colour, alpha=0.25, linewidth=0.6)
        speed.plot(at, running_mean(tokens_per_second), color=colour, linewidth=1.6, label=run.name)
    loss.set(xlabel="million tokens", ylabel="loss (nats a token)")
    speed.set(xlabel="million tokens", ylabel="thousand tokens a second", ylim=(0, None))
    for axes in (loss, speed):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(options.output, dpi=150, metadata={"Date": None} if options.output.endswith(".svg") else None)
    print(f"{options.output}: {', '.join(f'{run.name} {max(run.steps)} steps' for run in runs)}")


if __name__ == "__main__":
    main()
