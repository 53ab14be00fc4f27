#!/usr/bin/env python3
"""The files of tools/launch: what they start starts, and what it ends with is acted on. Usage: launch_test.py PROGRAM MPIEXEC [TEST ...]"""
import os
import re
import shutil
import subprocess
import sys
import unittest

import yaml

from support import SOURCE, main
from train_support import PROGRAM, TrainTest

LAUNCH = SOURCE / "tools" / "launch"
MPIEXEC = sys.argv[2]


class Slurm(TrainTest):
    SCRIPT = LAUNCH / "slurm.sh"

    def submit(self, *options):
        """The script with an srun that runs one rank, and a scontrol that notes its arguments."""
        stubs = self.root / "stubs"
        stubs.mkdir(exist_ok=True)
        noted = self.root / "noted"
        noted.unlink(missing_ok=True)
        (stubs / "srun").write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
        (stubs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {noted}\n')
        for stub in stubs.iterdir():
            stub.chmod(0o755)
        environment = {**os.environ, "PATH": f"{stubs}:{os.environ['PATH']}", "LACUNA": PROGRAM, "SLURM_JOB_ID": "17"}
        process = subprocess.Popen(["bash", str(self.SCRIPT), *map(str, options)], env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return process, lambda: noted.read_text() if noted.exists() else ""

    def test_a_run_that_ends_is_not_queued_again(self):
        process, noted = self.submit(self.recipe("slurm_done"), "--set", "train.device=cpu")
        output = process.communicate(timeout=120)[0]
        self.assertEqual((process.returncode, noted()), (0, ""), output)

    def test_a_signal_saves_and_queues_again(self):
        recipe = self.recipe("slurm_signal", lambda text: text.replace("steps: 12", "steps: 100000").replace("every: 4", "every: 0"))
        process, noted = self.submit(recipe, "--set", "train.device=cpu")
        log = self.root / "slurm_signal" / "metrics.jsonl"
        while not (log.exists() and '"step":2,"loss"' in log.read_text()):
            self.assertIsNone(process.poll())
        # As Slurm does: to the ranks, not to the script.
        self.assertEqual(subprocess.run(["pkill", "-USR1", "-f", f"^{PROGRAM} train {recipe}"]).returncode, 0)
        output = process.communicate(timeout=60)[0]
        self.assertEqual((process.returncode, noted()), (138, "requeue 17\n"), output)

    def test_a_refused_recipe_is_not_queued_again(self):
        process, noted = self.submit(self.root / "nowhere.yaml")
        output = process.communicate(timeout=60)[0]
        self.assertEqual((process.returncode, noted()), (2, ""), output)
        self.assertIn("nowhere.yaml", output)

    def test_lint(self):
        done = subprocess.run([shutil.which("shellcheck") or "shellcheck", str(self.SCRIPT)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        tasks = re.search(r"--ntasks-per-node=(\d+)", self.SCRIPT.read_text()).group(1)
        self.assertEqual(tasks, re.search(r"--gpus-per-node=(\d+)", self.SCRIPT.read_text()).group(1))


class Kubernetes(TrainTest):
    JOB = yaml.safe_load((LAUNCH / "mpijob.yaml").read_text())

    def test_the_launcher_starts_a_run(self):
        """Its command with two ranks in place of eight, this program and a recipe of the test."""
        (container,) = self.JOB["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
        command = [*container["command"], *container["args"]]
        recipe = SOURCE / next(a for a in command if a.endswith(".yaml")).removeprefix("/work/")
        self.assertTrue(recipe.exists(), recipe)
        replaced = {"mpirun": MPIEXEC, "8": "2", "lacuna": PROGRAM, f"/work/{recipe.relative_to(SOURCE)}": str(self.recipe("kubernetes"))}
        command = [replaced.get(word, word) for word in command]
        command[1:1] = ["--oversubscribe"]
        for attempt in range(2):
            done = subprocess.run([*command, "--set", "train.device=cpu"], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("resumed from step 12", done.stdout)

    def test_cards_ranks_and_memory_agree(self):
        spec = self.JOB["spec"]
        (worker,) = spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
        launcher = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]["command"]
        cards = worker["resources"]["limits"]["nvidia.com/gpu"]
        self.assertEqual((spec["slotsPerWorker"], int(launcher[launcher.index("-n") + 1])), (cards, cards))
        mounted = {mount["name"]: mount["mountPath"] for mount in worker["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["volumes"]}
        self.assertEqual(set(mounted), set(volumes))
        self.assertEqual(mounted["shared-memory"], "/dev/shm")


if __name__ == "__main__":
    main(own_arguments=2)
