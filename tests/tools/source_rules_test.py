#!/usr/bin/env python3
"""Rules of the source tree: which folder may include which, file lengths, kernel tables, what .cu files may include, headers that
compile alone."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a folder may include besides itself (tests and tools may use all). `distributed` holds two libraries: comm and sharding.
ALLOWED = {
    "core": set(),
    "autograd": {"core"},
    "distributed": {"core", "autograd", "nn"},
    "nn": {"core", "autograd", "distributed"},
    "nsa": {"core", "autograd", "distributed", "nn"},
    "moe": {"core", "autograd", "distributed", "nn"},
    "data": {"core"},
    "recipes": {"core", "autograd", "distributed", "nn", "nsa", "moe", "data"},
}
# Of distributed, only these may see nn; nothing else of distributed may include them.
SHARDING = {"gradient_reducer", "checkpoint", "run_lock", "training_state", "state_hash", "state_snapshot", "background_save",
            "weight_gatherer"}
# Kernels that have no CUDA implementation, and why.
NO_CUDA = {}
HEAVY_IN_CU = re.compile(r'#include\s+[<"](absl/|yaml-cpp|hdf5|mpi|nlohmann|core/tensor\.h|spdlog)')


def longest(path):
    """How many lines a file of its kind may have."""
    if path.suffix == ".h":
        return 200
    if path.suffix in {".cu", ".cuh"} or path.parent.name in {"cpu", "cuda"}:
        return 500  # kernels
    return 400 if path.relative_to(ROOT).parts[0] == "tests" else 300


def own_header_problem(path, text):
    """A library's x.cc starts with x.h, which shows that x.h compiles alone (tools/cmake's lacuna_header_check sees to the others)."""
    header = path.with_suffix(".h")
    first = re.search(r'^#include\s+[<"]([^>"]+)', text, re.MULTILINE)
    if not header.exists() or (first and first.group(1) == str(header.relative_to(ROOT))):
        return None
    return f"{path.relative_to(ROOT)}: its first include must be its own header, {header.relative_to(ROOT)}"


def sources():
    for folder in [*ALLOWED, "tools", "tests"]:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".h", ".cc", ".cu", ".cuh"}:
                yield folder, path


def main():
    problems, kernels, tests = [], {}, ""
    for folder, path in sources():
        text = path.read_text()
        name = path.relative_to(ROOT)
        lines = text.count("\n")
        if lines > longest(path):
            problems.append(f"{name}: {lines} lines; a file of its kind may have {longest(path)}")
        if path.suffix == ".h" and "#pragma once" not in text:
            problems.append(f"{name}: no #pragma once")
        if folder == "tests":
            tests += text
        if folder in ALLOWED and path.suffix == ".cc":
            built = (ROOT / folder / "CMakeLists.txt").read_text()
            if str(path.relative_to(ROOT / folder)) not in built.split():
                problems.append(f"{name}: {folder}/CMakeLists.txt does not build it")
            if problem := own_header_problem(path, text):
                problems.append(problem)
        for used in re.findall(r'#include "([a-z_]+)/', text):
            if folder in ALLOWED and used in ALLOWED and used != folder and used not in ALLOWED[folder]:
                problems.append(f"{name}: includes {used}/; {folder} may use {sorted(ALLOWED[folder]) or 'nothing else'}")
        if folder == "distributed" and '#include "nn/' in text and not any(path.stem.startswith(s) for s in SHARDING):
            problems.append(f"{name}: the communicator must not know nn")
        if folder in {"nn", "nsa", "moe", "core", "autograd"} and re.search(r'#include "distributed/(' + "|".join(SHARDING) + ")", text):
            problems.append(f"{name}: modules know nothing of sharding")
        if folder == "nn" and re.search(r'#include "(nsa|moe)/', text):
            problems.append(f"{name}: nn must not name nsa or moe")
        if path.suffix in {".cu", ".cuh"} and HEAVY_IN_CU.search(text):
            problems.append(f"{name}: a .cu file includes a heavy header: {HEAVY_IN_CU.search(text).group(0)}")
        for args, kernel, slots in re.findall(r'constinit const Kernel<(\w+)> \w+\{\s*"(\w+)", ([^}]*)\}', text):
            kernels[kernel] = (name, args, slots)
    for kernel, (name, args, slots) in sorted(kernels.items()):
        if ("LACUNA_IF_CUDA" in slots) == (kernel in NO_CUDA):
            problems.append(f"{name}: kernel {kernel}: a CUDA slot and the list NO_CUDA in {pathlib.Path(__file__).name} must agree")
        # A kernel is reached by its ops:: entry, or through the rule that a test names.
        entry = re.search(r"cpu::(\w+)", slots).group(1)
        rule = re.sub(r"(Fwd|Bwd|Dw)$", "", entry)
        if not re.search(rf"\b({entry}|{rule})\b", tests) and kernel not in REACHED_THROUGH:
            problems.append(f"{name}: kernel {kernel}: no test names ops::{entry} or {rule}")
        elif kernel in REACHED_THROUGH and REACHED_THROUGH[kernel] not in tests:
            problems.append(f"{name}: kernel {kernel}: no test names {REACHED_THROUGH[kernel]}")
    if not kernels:
        problems.append("no kernel tables found: the pattern of this test no longer matches the source")
    print("\n".join(problems) if problems else f"{len(kernels)} kernels, all rules hold")
    return 1 if problems else 0


# Kernels that tests reach only inside a larger function that they do name.
REACHED_THROUGH = {
    "gather_blocks_fwd": "NsaOperator",
    "gather_blocks_bwd": "NsaOperator",
    "block_mean_fwd": "PhiKind::kMean",
    "block_mean_bwd": "PhiKind::kMean",
    "phi_activation_fwd": "NsaOperator",
    "phi_activation_bwd": "NsaOperator",
    "gate_combine_fwd": "NsaOperator",
    "gate_combine_bwd": "NsaOperator",
    "select_blocks": "NsaOperator",
    "selected_attention_fwd": "NsaOperator",
    "selected_attention_bwd": "NsaOperator",
    "attention_fwd": "AttentionOverRanges",
    "attention_bwd": "AttentionOverRanges",
    "count_choices": "MoeLayer",
    "mean_probabilities": "MoeLayer",
}

if __name__ == "__main__":
    sys.exit(main())
