"""What the tests of `lacuna train` share. A test file is run as `x_test.py PROGRAM MPIEXEC [TEST ...]`."""
import json
import re
import subprocess
import sys
import time

from support import PROGRAM, ProgramTest

MPIEXEC = sys.argv[2]


class TrainTest(ProgramTest):
    def command(self, ranks, recipe, *options):
        launch = [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        return [*launch, PROGRAM, "train", str(recipe), "--set", "train.device=cpu", *options]

    def train(self, ranks, recipe, *options, expect=0):
        done = subprocess.run(self.command(ranks, recipe, *options), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def train_until(self, ranks, recipe, step, *options):
        """Trains until `step`, or a later one, is logged anew, then asks the run to save and stop; one that ends before is as good."""
        log = self.root / recipe.stem / "metrics.jsonl"
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(self.command(ranks, recipe, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while process.poll() is None:
            # Only what this process wrote: it has its signal handlers then.
            new = log.read_text()[before:] if log.exists() else ""
            if any(int(found) >= step for found in re.findall(r'"step":(\d+),"loss"', new)):
                process.send_signal(subprocess.signal.SIGUSR1)
                break
            time.sleep(0.005)
        output = process.communicate(timeout=120)[0]
        self.assertIn(process.returncode, (0, 138), output)
        return output

    def entries(self, name):
        """The lines of a run's metrics.jsonl."""
        return [json.loads(line) for line in (self.root / name / "metrics.jsonl").read_text().splitlines()]

    def steps(self, name):
        """Step -> what was logged for it, once for each time that it ran."""
        found = {}
        for entry in self.entries(name):
            if "loss" in entry:
                found.setdefault(entry["step"], []).append(entry)
        return found

    def losses(self, name):
        return {step: [(e["loss"], e["gradient_norm"]) for e in entries] for step, entries in self.steps(name).items()}

    def state(self, done, step):
        return re.search(rf"saved step {step} \(state ([0-9a-f]+)\)", done.stdout).group(1)
