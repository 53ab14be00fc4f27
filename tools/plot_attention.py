#!/usr/bin/env python3
"""Sparse attention beside full attention, from what `lacuna bench cuda --json` wrote: figure 6 and table 4 of the NSA paper (arXiv
2502.11089), as one picture (needs matplotlib) and as text.

  lacuna bench cuda --ops --match '^attention_[fb]|^nsa_attention' --lengths 1024,2048,4096,8192,16384,32768,65536 --pattern local --pytorch python3 --json attention.json
  lacuna bench cuda --decode --json decode.json
  python3 tools/plot_attention.py attention.json decode.json --output attention.svg

Numbers at NSA's points are the speed-up over the fastest full attention of that length. Of rows that several files have the last one counts.
"""
import argparse
import json
import sys

# Rows, the field of the time, name, colour (Okabe and Ito), marker.
SERIES = (("nsa_attention_core", "ms", "NSA, Lacuna", "#D55E00", "o"),
          ("attention", "ms", "full, Lacuna", "#0072B2", "s"),
          ("attention", "torch_ms", "full, PyTorch on cuDNN", "#009E73", "^"),
          ("attention", "triton_ms", "full, FlashAttention-2 in Triton", "#CC79A7", "D"))
PASSES = (("fwd", "forward"), ("bwd", "backward"))


class Results:
    def __init__(self, paths):
        self.rows, self.decode, self.measured = {}, {}, []
        for path in paths:
            try:
                report = json.loads(open(path, encoding="utf-8").read())
                rows = {(row["op"], row["tokens"]): row for row in report["rows"]}
                decode = {(row["op"], row["batch"], row["tokens"]): row for row in report.get("decode", [])}
            except (OSError, ValueError, KeyError, TypeError) as error:
                sys.exit(f"plot_attention: {path}: not a result of lacuna bench cuda --json ({type(error).__name__}: {error})")
            self.rows.update(rows)
            self.decode.update(decode)
            where = ", ".join(filter(None, (report.get("device"), report.get("driver") and f"driver {report['driver']}", report.get("date", "")[:10])))
            if where and where not in self.measured:
                self.measured.append(where)

    def times(self, op, field):
        """{tokens: ms}"""
        return {tokens: row[field] for (name, tokens), row in sorted(self.rows.items()) if name == op and field in row}

    def patterns(self):
        """How the blocks of NSA's rows were chosen."""
        return sorted({row["lists"]["pattern"] for (name, _), row in self.rows.items() if name.startswith("nsa_attention_core") and "lists" in row})


def speedups(results, which):
    """{tokens: (NSA's ms, times faster than the fastest full attention)}"""
    nsa = results.times(f"nsa_attention_core_{which}", "ms")
    full = [results.times(f"attention_{which}", field) for op, field, *_ in SERIES if op == "attention"]
    fastest = {tokens: min(times[tokens] for times in full if tokens in times) for tokens in nsa if any(tokens in times for times in full)}
    return {tokens: (nsa[tokens], fastest[tokens] / nsa[tokens]) for tokens in fastest}


def decode_steps(results):
    """[(sequences, context, tokens that NSA reads, MB of full, MB of NSA, expected speed-up, full ms, NSA ms, measured speed-up)]"""
    steps = []
    for (name, batch, context), full in sorted(results.decode.items()):
        nsa = results.decode.get(("decode_nsa", batch, context))
        if name != "decode_full" or nsa is None:
            continue
        ratio = full["bytes"] / nsa["bytes"]
        steps.append((batch, context, round(nsa["tokens_read"]), full["bytes"] / 1e6, nsa["bytes"] / 1e6, ratio, full["ms"], nsa["ms"], full["ms"] / nsa["ms"]))
    return steps


STEP_COLUMNS = ("sequences", "context", "NSA reads", "full MB", "NSA MB", "expected", "full ms", "NSA ms", "measured")


def step_cells(step):
    batch, context, tokens, full_mb, nsa_mb, expected, full_ms, nsa_ms, measured = step
    return (str(batch), f"{context:,}", f"{tokens:,}", f"{full_mb:,.1f}", f"{nsa_mb:,.1f}", f"{expected:.1f}x", f"{full_ms:.3f}", f"{nsa_ms:.3f}", f"{measured:.1f}x")


def text(results):
    lines = []
    for which, name in PASSES:
        columns = [(label, results.times(f"{op}_{which}", field)) for op, field, label, *_ in SERIES]
        columns = [(label, times) for label, times in columns if times]
        if not columns:
            continue
        faster = speedups(results, which)
        lines.append(f"{name}, ms")
        lines.append(f"{'tokens':>9}" + "".join(f"  {label:>32}" for label, _ in columns) + "  speed-up")
        for tokens in sorted({tokens for _, times in columns for tokens in times}):
            cells = "".join(f"  {times[tokens]:>32.3f}" if tokens in times else f"  {'-':>32}" for _, times in columns)
            lines.append(f"{tokens:>9,}{cells}" + (f"  {faster[tokens][1]:>7.1f}x" if tokens in faster else ""))
        lines.append("")
    if steps := decode_steps(results):
        lines.append("a decode step's attention: rows of keys and values that NSA reads; bytes, time")
        lines += ["".join(f"{cell:>11}" for cell in cells) for cells in (STEP_COLUMNS, *map(step_cells, steps))]
    return "\n".join(lines).rstrip() + "\n"


def draw(results, output):
    try:
        import matplotlib
    except ImportError:
        sys.exit("plot_attention: needs matplotlib (pip install matplotlib)")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "lacuna"})
    steps = decode_steps(results)
    figure = pyplot.figure(figsize=(10, 4 + (0.6 + 0.2 * len(steps) if steps else 0)), layout="constrained")
    grid = figure.add_gridspec(2 if steps else 1, 2, height_ratios=[3, 0.5 + 0.16 * len(steps)] if steps else None)
    first = None
    for column, (which, name) in enumerate(PASSES):
        axes = first = figure.add_subplot(grid[0, column], sharey=first)
        lengths = set()
        for op, field, label, colour, marker in SERIES:
            times = results.times(f"{op}_{which}", field)
            lengths.update(times)
            if times:
                axes.plot(list(times), list(times.values()), color=colour, marker=marker, markersize=5, linewidth=1.6, label=label)
        for tokens, (ms, faster) in speedups(results, which).items():
            axes.annotate(f"{faster:.1f}x", (tokens, ms), textcoords="offset points", xytext=(0, -13 if faster >= 1 else 6), ha="center", fontsize=8, color=SERIES[0][3])
        axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="ms", title=name)
        axes.set_xticks(sorted(lengths), [f"{n // 1024}k" if n % 1024 == 0 else str(n) for n in sorted(lengths)])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        if lengths:
            axes.legend(frameon=False, fontsize=8)
    if steps:
        axes = figure.add_subplot(grid[1, :])
        axes.axis("off")
        axes.set_title("a decode step's attention", fontsize=9)
        table = axes.table([step_cells(step) for step in steps], colLabels=STEP_COLUMNS, loc="center", cellLoc="right", colLoc="right", edges="horizontal")
        table.auto_set_font_size(False)
        table.set_fontsize(8)
    pattern = results.patterns()
    figure.suptitle("; ".join(results.measured) + (f"; blocks chosen: {', '.join(pattern)}" if pattern else ""), fontsize=9)
    figure.savefig(output, dpi=150, metadata={"Date": None} if output.endswith(".svg") else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="files of lacuna bench cuda --json")
    parser.add_argument("--output", help="picture to write: .svg, .png or .pdf")
    options = parser.parse_args()
    results = Results(options.results)
    if not decode_steps(results) and not any(speedups(results, which) for which, _ in PASSES):
        sys.exit("plot_attention: no length has rows of full attention and of NSA (attention_fwd and nsa_attention_core_fwd, or decode_full and decode_nsa)")
    sys.stdout.write(text(results))
    if options.output:
        draw(results, options.output)
        print(f"\n{options.output}: {', '.join(results.measured)}")


if __name__ == "__main__":
    main()
