#!/usr/bin/env python3
"""Loss and speed of runs over the tokens they were trained on, from their metrics.jsonl, as one picture (needs matplotlib).

  python3 tools/plot_runs.py runs/300m_pretrain_8k runs/300m_pretrain_8k_full --output loss.svg
  python3 tools/plot_runs.py --held-out --names NSA,full runs/300m_{pretrain_8k,extend_32k,sft} + runs/300m_{pretrain_8k,extend_32k,sft}_full \
    --output stages.svg

Thin lines are steps, thick ones their running mean, points the held-out losses. A vertical line is where a run was resumed; steps that a
resume repeated count once. With --held-out: a panel for each held-out set instead; runs between two + are stages of one model, one
behind the other.
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


def stages_of(folders):
    """The folders between two +."""
    groups = [[]]
    for folder in folders:
        if folder == "+":
            groups.append([])
        else:
            groups[-1].append(folder)
    return groups


def plot_held_out(pyplot, models, names):
    """models: each a list of runs, one behind the other. One panel a set."""
    panels = {}  # set: [(model, tokens, losses)]
    borders = []
    for model, runs in enumerate(models):
        before = 0
        for run in runs:
            for name, (tokens, losses) in held_out_points(run).items():
                panels.setdefault(name, []).append((model, [before + t for t in tokens], losses))
            before += max(run.tokens.values())
            if model == 0 and run is not runs[-1]:
                borders.append(before)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(3.6 * columns, 2.7 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat[len(panels):]:
        axes.axis("off")
    for axes, (name, lines) in zip(grid.flat, panels.items()):
        named = set()
        for model, tokens, losses in lines:
            axes.plot(tokens, losses, color=COLOURS[model % len(COLOURS)], marker="os^D"[model % 4], markersize=4, linewidth=1.4,
                      label=None if model in named else names[model])
            named.add(model)
        low, high = axes.get_xlim()
        for border in borders:
            if low < border < high:
                axes.axvline(border, color="grey", linestyle=":", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set(xlabel="million tokens in the loss", ylabel="loss (nats a token)")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    return figure


def save(figure, path):
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.endswith(".svg") else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--output", required=True, help="picture to write: .svg, .png or .pdf")
    parser.add_argument("--names", help="names in the legend, with commas between them")
    parser.add_argument("--held-out", action="store_true", help="a panel for each held-out set")
    options = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("plot_runs: needs matplotlib (pip install matplotlib)")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "lacuna"})
    if options.held_out:
        models = [[Run(folder) for folder in group] for group in stages_of(options.runs)]
        names = options.names.split(",") if options.names else [runs[0].name for runs in models]
        if len(names) != len(models):
            sys.exit(f"plot_runs: {len(names)} names for {len(models)} models")
        save(plot_held_out(pyplot, models, names), options.output)
        print(f"{options.output}: {', '.join(f'{name}: {len(runs)} runs' for name, runs in zip(names, models))}")
        return
    runs = [Run(folder) for folder in options.runs]
    if options.names:
        names = options.names.split(",")
        if len(names) != len(runs):
            sys.exit(f"plot_runs: {len(names)} names for {len(runs)} runs")
        for run, name in zip(runs, names):
            run.name = name
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
    save(figure, options.output)
    print(f"{options.output}: {', '.join(f'{run.name} {max(run.steps)} steps' for run in runs)}")


if __name__ == "__main__":
    main()
