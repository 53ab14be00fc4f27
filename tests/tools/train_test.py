#!/usr/bin/env python3
"""lacuna train as a user runs it: resume, signals, bad input, exit codes. Usage: train_test.py PROGRAM MPIEXEC [TEST ...]"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from support import main
from train_support import PROGRAM, TrainTest

class Resume(TrainTest):
    def test_resume_equals_uninterrupted(self):
        for ranks in (1, 2):
            whole = self.train(ranks, self.recipe(f"whole{ranks}"))
            recipe = self.recipe(f"cut{ranks}")
            # Ends in the middle of an interval: steps 5 and 6 are repeated.
            process = subprocess.Popen(self.command(ranks, recipe), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            log = self.root / f"cut{ranks}" / "metrics.jsonl"
            while not (log.exists() and '"step":6,"loss"' in log.read_text() and '"event":"checkpoint"' in log.read_text()):
                self.assertIsNone(process.poll(), "the run ended before it could be killed")
                time.sleep(0.01)
            self.kill(process, recipe)
            resumed = self.train(ranks, recipe, "--resume")
            self.assertIn("resumed from step", resumed.stdout)
            self.assertEqual(self.state(resumed, 12), self.state(whole, 12))
            lines = self.entries(f"whole{ranks}")
            idle = {line["step"]: line["idle_ms"] for line in lines if "idle_ms" in line}
            self.assertEqual(idle[1], 0)  # nothing before it
            self.assertGreater(idle[2], 0)
            self.assertEqual([line["step"] for line in lines if line.get("event") == "first_step"], [1])
            expected, found = self.losses(f"whole{ranks}"), self.losses(f"cut{ranks}")
            repeated = [s for s in found if len(found[s]) > 1]
            self.assertTrue(repeated)
            for step, values in found.items():
                for value in values:
                    self.assertEqual(value, expected[step][0], f"step {step}")

    def kill(self, process, recipe):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # mpirun's death leaves the ranks to find out for themselves.
        subprocess.run(["pkill", "-KILL", "-f", str(recipe)])
        # The folder is theirs until the last of them is gone, which a busy machine can take a while for.
        while subprocess.run(["pgrep", "-f", str(recipe)], stdout=subprocess.DEVNULL).returncode == 0:
            time.sleep(0.05)

    def test_killed_again_and_again_while_checkpoints_are_written(self):
        """A checkpoint after every step: wherever the kills fall, the run ends as the one that nobody killed."""
        every = ("--set", "train.checkpoint_every=1")
        whole = self.train(1, self.recipe("unharmed"), "--set", "train.async_checkpoint=false")
        self.assertRegex(whole.stdout, r"saved step 4 \(state [0-9a-f]{16}\): stall [0-9.]+ s \(copy 0\.00 s\)\n")
        recipe = self.recipe("harmed")
        log, delays, resumed = self.root / "harmed" / "metrics.jsonl", random.Random(5), 0
        for _ in range(6):
            before = log.stat().st_size if log.exists() else 0
            process = subprocess.Popen(self.command(1, recipe, *every, "--resume"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True, start_new_session=True)
            while process.poll() is None and not (log.exists() and '"loss"' in log.read_text()[before:]):
                time.sleep(0.002)
            time.sleep(delays.uniform(0, 0.08))
            self.kill(process, recipe)
            resumed += "resumed from step" in process.stdout.read()
            process.stdout.close()
        self.assertGreater(resumed, 0)
        done = self.train(1, recipe, *every, "--resume")
        self.assertEqual(self.state(done, 12), self.state(whole, 12))
        self.assertEqual([p.name for p in (self.root / "harmed" / "checkpoints").glob("*.tmp*")], [])
        expected = self.losses("unharmed")
        for step, values in self.losses("harmed").items():
            self.assertEqual(set(values), set(expected[step]), f"step {step}")

    def test_checkpoints_in_the_background(self):
        """The same files as of saves while training waits, on one rank and on two; their events say what they took."""
        for ranks in (1, 2):
            for name, value in (("background", "true"), ("waiting", "false")):
                done = self.train(ranks, self.recipe(f"{name}{ranks}"), "--set", f"train.async_checkpoint={value}")
                saved = [e for e in self.entries(f"{name}{ranks}") if e.get("event") == "checkpoint"]
                self.assertEqual([e["step"] for e in saved], [4, 8, 12])
                for event in saved:
                    self.assertGreater(event["stall_seconds"], 0)
                    self.assertGreater(event["seconds"], 0)
                    written = name == "background" and event["step"] < 12
                    self.assertEqual(", written in" in event["message"], written, event)
                self.assertEqual(len(re.findall(r"saved step \d+ \(state [0-9a-f]{16}\): stall ", done.stdout)), 3)
            self.assertEqual(self.losses(f"background{ranks}"), self.losses(f"waiting{ranks}"))
            for step in (4, 8, 12):
                manifests = [json.loads((self.root / f"{name}{ranks}" / "checkpoints" / f"step_{step}" / "MANIFEST.json").read_text())["manifest"]
                             for name in ("background", "waiting")]
                self.assertEqual(manifests[0]["files"], manifests[1]["files"])
                self.assertEqual(manifests[0]["tensors"], manifests[1]["tensors"])
                self.assertEqual(manifests[0]["scalars"], manifests[1]["scalars"])

    def test_eight_ranks_and_fewer_continue_the_same_run(self):
        """8 -> 1 -> 8 -> 2 -> 8 -> 4 ranks, whole and sharded, over all ranks or over 4: each starts from the very tensors that the one before left."""
        # With a rate that does not depend on train.steps, a run may be cut anywhere.
        change = lambda text: (text.replace("log_every: 1", "log_every: 1\n  dtype: f64").replace("global_batch: 4", "global_batch: 8")
                               .replace("warmup_steps: 3", "warmup_steps: 3, schedule: constant"))
        self.train(1, self.recipe("one_rank", change))
        recipe, state = self.recipe("eight_ranks", change), None
        for ranks, steps, zero, shard in ((8, 4, 2, 0), (1, 6, 0, 0), (8, 8, 3, 4), (2, 9, 0, 0), (8, 10, 2, 0), (4, 12, 3, 0)):
            output = self.train(ranks, recipe, "--resume", "--allow", "train.steps", "--set", f"train.steps={steps}",
                                "--set", "train.checkpoint_every=0", "--set", f"parallel.zero={zero}", "--set", f"parallel.shard={shard}").stdout
            if state:
                self.assertEqual(re.search(r"resumed from (step \d+ \(state [0-9a-f]+\))", output).group(1), state)
            state = re.findall(r"saved (step \d+ \(state [0-9a-f]+\))", output)[-1]
        expected, found = self.steps("one_rank"), self.steps("eight_ranks")
        self.assertEqual(sorted(found), sorted(expected))
        for step, entries in found.items():
            for entry in entries:
                self.assertEqual(entry["data_hash"], expected[step][0]["data_hash"])
                self.assertAlmostEqual(entry["loss"], expected[step][0]["loss"], delta=1e-11)

    def test_other_rank_counts_continue_the_same_run(self):
        """1 -> 2 -> 4 -> 4 -> 1 ranks, state whole or sharded: the losses agree with one rank's to f64 rounding, the data order goes on."""
        f64 = lambda text: text.replace("log_every: 1", "log_every: 1\n  dtype: f64")
        self.train(1, self.recipe("steady", f64))
        recipe = self.recipe("moving", f64)
        for ranks, steps, zero in ((1, 3, 0), (2, 5, 3), (4, 7, 2), (4, 9, 3), (1, 12, 2)):
            # The schedule must be the whole run's, so the run is stopped by a signal and not by a shorter train.steps.
            self.train_until(ranks, recipe, steps, "--resume", "--set", "train.checkpoint_every=3", "--set", f"parallel.zero={zero}")
        expected, found = self.losses("steady"), self.losses("moving")
        self.assertEqual(sorted(found), sorted(expected))
        for step, values in found.items():
            for loss, norm in values:
                self.assertAlmostEqual(loss, expected[step][0][0], delta=1e-11)

    def test_samples_on_any_number_of_ranks(self):
        """1 -> 4 -> 2 -> 4 -> 1 ranks, each with whole samples, halves or quarters: the losses are one rank's to f64 rounding."""
        f64 = lambda text: text.replace("log_every: 1", "log_every: 1\n  dtype: f64")
        self.train(1, self.recipe("samples_steady", f64))
        recipe = self.recipe("samples_moving", f64)
        for ranks, steps, context, expert in ((1, 3, 1, 1), (4, 5, 4, 2), (2, 7, 2, 1), (4, 9, 2, 4), (1, 12, 1, 1)):
            output = self.train_until(ranks, recipe, steps, "--resume", "--set", "train.checkpoint_every=3",
                                      "--set", f"parallel.context={context}", "--set", f"parallel.expert={expert}")
            self.assertNotIn("error", output)
        expected, found = self.losses("samples_steady"), self.losses("samples_moving")
        self.assertEqual(sorted(found), sorted(expected))
        for step, values in found.items():
            for loss, norm in values:
                self.assertAlmostEqual(loss, expected[step][0][0], delta=1e-11)
                self.assertAlmostEqual(norm, expected[step][0][1], delta=1e-10)
        refused = self.train(4, self.recipe("samples_odd"), "--set", "parallel.context=3", expect=2)
        self.assertRegex(refused.stdout + refused.stderr, "parallel.context = 3: ")

    def test_experts_on_any_number_of_ranks(self):
        """1 -> 4 -> 2 -> 4 -> 1 ranks, each with all experts, a half or a quarter of them: the losses are one rank's to f64 rounding."""
        f64 = lambda text: text.replace("log_every: 1", "log_every: 1\n  dtype: f64")
        self.train(1, self.recipe("experts_steady", f64))
        recipe = self.recipe("experts_moving", f64)
        for ranks, steps, expert, zero in ((1, 3, 1, 0), (4, 5, 4, 0), (2, 7, 2, 2), (4, 9, 2, 3), (1, 12, 1, 2)):
            self.train_until(ranks, recipe, steps, "--resume", "--set", "train.checkpoint_every=3",
                             "--set", f"parallel.expert={expert}", "--set", f"parallel.zero={zero}")
        expected, found = self.losses("experts_steady"), self.losses("experts_moving")
        self.assertEqual(sorted(found), sorted(expected))
        for step, values in found.items():
            for loss, norm in values:
                self.assertAlmostEqual(loss, expected[step][0][0], delta=1e-11)
                self.assertAlmostEqual(norm, expected[step][0][1], delta=1e-10)

    def test_evaluation_scores_each_sample_once(self):
        """Ranks without a sample of their own run along: 1, 3 or 5 samples for 4 ranks."""
        f64 = lambda text: text.replace("log_every: 1", "log_every: 1\n  dtype: f64")
        for samples in (1, 3, 5):
            options = ("--set", f"train.eval_samples={samples}", "--set", "train.steps=2", "--set", "train.eval_every=1", "--set", "optimizer.warmup_steps=1")
            found = []
            for ranks, zero in ((1, 0), (4, 0), (4, 3)):
                name = f"evaluated_{samples}_{ranks}_{zero}"
                self.train(ranks, self.recipe(name, f64), *options, "--set", f"parallel.zero={zero}")
                found.append([e["evaluation"]["held_out"] for e in self.entries(name) if "evaluation" in e])
            self.assertEqual(len(found[0]), 2)
            for one, *others in zip(*found, strict=True):
                self.assertGreater(one["tokens"], 0)
                for four in others:
                    self.assertEqual((one["tokens"], one["bytes"]), (four["tokens"], four["bytes"]))
                    self.assertAlmostEqual(one["loss"], four["loss"], delta=1e-11)
                    self.assertAlmostEqual(one["bits_per_byte"], four["bits_per_byte"], delta=1e-11)

    def test_sharded_state_is_resumed_to_the_bit(self):
        """parallel.zero = 2 and 3: master weights, moments and weights in as many shares as ranks."""
        bf16 = lambda text: text.replace("log_every: 1", "log_every: 1\n  dtype: bf16")
        # One micro-batch a step on each rank: no sum is rounded in another place without shares.
        expected = self.state(self.train(4, self.recipe("no_shares", bf16)), 12)
        for zero in (2, 3):
            sharded = ("--set", f"parallel.zero={zero}")
            self.assertEqual(self.state(self.train(4, self.recipe(f"whole_shares_{zero}", bf16), *sharded), 12), expected)
            recipe = self.recipe(f"cut_shares_{zero}", bf16)
            self.train_until(4, recipe, 5, *sharded)
            self.assertEqual(self.state(self.train(4, recipe, "--resume", *sharded), 12), expected)

    def test_bf16_moments(self):
        """They are saved as they are: a resumed run has the bits of an uninterrupted one. Their type is the run's."""
        narrow = lambda text: text.replace("warmup_steps: 3", "warmup_steps: 3, moments: bf16")
        wide, whole = self.train(1, self.recipe("f32_moments")), self.train(1, self.recipe("bf16_moments", narrow))
        self.assertNotEqual(self.state(wide, 12), self.state(whole, 12))
        (expected, _), (found, _) = self.losses("f32_moments")[12][0], self.losses("bf16_moments")[12][0]
        self.assertAlmostEqual(found, expected, delta=0.05)
        recipe = self.recipe("bf16_moments_cut", narrow)
        self.train_until(1, recipe, 5)
        self.assertEqual(self.state(self.train(1, recipe, "--resume"), 12), self.state(whole, 12))
        size = lambda name: (self.root / name / "checkpoints" / "step_12" / "rank_0.h5").stat().st_size
        self.assertLess(size("bf16_moments"), 0.8 * size("f32_moments"))
        pattern = r"optimizer\.moments: bf16 in the checkpoint, f32 in the recipe"
        done = self.train(1, recipe, "--resume", "--set", "optimizer.moments=f32", expect=4)
        self.assertRegex(done.stderr, pattern)
        done = self.train(1, recipe, "--resume", "--set", "optimizer.moments=f32", "--allow", "optimizer.moments", expect=4)
        self.assertRegex(done.stderr, r"adamw_m/\S+: bf16 \S+ in the checkpoint, f32 ")

    def test_signal_saves_and_exits_with_its_number(self):
        for number, expected in ((signal.SIGUSR1, 138), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
            recipe = self.recipe(f"signal{expected}", lambda text: text.replace("steps: 12", "steps: 100000").replace("every: 4", "every: 0"))
            process = subprocess.Popen(self.command(1, recipe), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            log = self.root / f"signal{expected}" / "metrics.jsonl"
            while not (log.exists() and '"step":2,"loss"' in log.read_text()):
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, expected, out + err)
            self.assertIn("latest checkpoint", err)
            self.assertTrue((self.root / f"signal{expected}" / "checkpoints" / "LATEST").exists())

    def test_damaged_checkpoint_falls_back(self):
        recipe = self.recipe("damaged")
        self.train(1, recipe)
        newest = self.root / "damaged" / "checkpoints" / "step_12" / "rank_0.h5"
        raw = bytearray(newest.read_bytes())
        raw[len(raw) // 2] ^= 1
        newest.write_bytes(raw)
        done = self.train(1, recipe, "--resume")
        self.assertIn("resumed from step 8", done.stdout)
        self.assertRegex(done.stdout + done.stderr, r"step_12/rank_0\.h5: checksum mismatch in \S+")

    def test_full_disk_keeps_training(self):
        # Which of the process' writes is the first of a save: counted in a run that goes well.
        trace = self.root / "writes"
        waiting = ("--set", "train.async_checkpoint=false")
        counted = subprocess.run(["strace", "-f", "-y", "-o", trace, "-e", "trace=pwrite64", *self.command(1, self.recipe("roomy_disk"), *waiting)],
                                 capture_output=True, text=True, timeout=240)
        self.assertEqual(counted.returncode, 0, counted.stderr)
        writes = [line for line in trace.read_text().splitlines() if "pwrite64(" in line]
        first = 1 + next(i for i, line in enumerate(writes) if "/checkpoints/step_4" in line)
        recipe = self.recipe("full_disk")
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", f"inject=pwrite64:error=ENOSPC:when={first}"]
        done = subprocess.run([*strace, *self.command(1, recipe, *waiting)], capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout + done.stderr, r"checkpoint step 4 failed: No space left on device")
        self.assertIn("saved step 12", done.stdout)
        # A run whose last save fails has not ended well, and says so.
        last = 1 + next(i for i, line in enumerate(writes) if "/checkpoints/step_12" in line)
        strace[-1] = f"inject=pwrite64:error=ENOSPC:when={last}"
        done = subprocess.run([*strace, *self.command(1, self.recipe("full_at_last"), *waiting)], capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"lacuna: checkpoint step 12 failed: No space left on device .*kept step 8")
        self.assertEqual([p.name for p in (self.root / "full_disk" / "checkpoints").glob("*.tmp*")], [])
        # In the background: strace counts each thread's calls, so that every save of this run fails, the last one at its end.
        strace[-1] = f"inject=pwrite64:error=ENOSPC:when={first}+"
        done = subprocess.run([*strace, *self.command(1, self.recipe("full_behind"))], capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        for step in (4, 8, 12):
            self.assertRegex(done.stderr, rf"checkpoint step {step} failed: No space left on device .*; no earlier checkpoint")
        self.assertEqual([e["step"] for e in self.entries("full_behind") if e.get("event") == "checkpoint_failed"], [4, 8, 12])
        self.assertEqual(sorted(self.steps("full_behind")), list(range(1, 13)))
        self.assertEqual(list((self.root / "full_behind" / "checkpoints").iterdir()), [])


class Hangs(TrainTest):
    def test_a_stopped_rank_is_named_and_the_run_goes_on_from_its_checkpoint(self):
        recipe = self.recipe("stopped", lambda text: text.replace("steps: 12", "steps: 100000").replace("every: 4", "every: 2"))
        process = subprocess.Popen(self.command(2, recipe, "--set", "parallel.timeout_seconds=4"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        log = self.root / "stopped" / "metrics.jsonl"
        while not (log.exists() and '"step":5,"loss"' in log.read_text()):
            self.assertIsNone(process.poll(), "the run ended early")
            time.sleep(0.01)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
        rank = lambda pid: re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{pid}/environ").read_bytes())
        stopped = [int(pid) for pid in children if (found := rank(pid)) and found.group(1) == b"1"]
        self.assertEqual(len(stopped), 1)
        os.kill(stopped[0], signal.SIGSTOP)
        begin = time.monotonic()
        out, err = process.communicate(timeout=60)
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(process.returncode, 5, out + err)
        self.assertRegex(err, r"lacuna: rank 0 of 2: \w+ #\d+ \(.*\): (nothing from|not taken by) rank 1 within 4\.\d s; in (step|checkpoint of step|evaluation after step) \d+.*"
                              r"rank 1 does not answer: stopped, dead or cut off")
        # The ranks are gone, so that the folder is free; a checkpoint is complete.
        done = self.train_until(2, recipe, 7, "--resume")
        self.assertRegex(done, r"resumed from step \d+")


class Memory(TrainTest):
    """Four samples of 1024 tokens at once: several times what anything but the step itself takes."""

    @staticmethod
    def large(text):
        return text.replace("sequence_length: 96", "sequence_length: 1024").replace("micro_batch: 1", "micro_batch: 4")

    def peak_mib(self, done):
        line = re.search(r"^memory, at its peak: ([0-9.]+) MiB = (.+)$", done.stdout, re.MULTILINE)
        self.assertIsNotNone(line, done.stdout)
        return float(line.group(1)), line.group(2)

    def test_a_run_without_memory_says_what_helps_and_is_taken_up_again(self):
        whole = self.train(1, self.recipe("whole_memory", self.large))
        peak, parts = self.peak_mib(whole)
        self.assertTrue(parts.startswith("activations "), parts)
        events = [e for e in self.entries("whole_memory") if e.get("event") == "memory_peak"]
        self.assertTrue(events and "activations" in events[0]["message"], events)

        recipe = self.recipe("no_memory", self.large)
        limit = ("--set", f"train.memory_limit_gib={0.7 * peak / 1024}")
        failed = self.train(1, recipe, *limit, expect=5)
        self.assertRegex(failed.stderr, r"(?m)^lacuna: rank 0: out of memory on the CPU: [0-9.]+ [KM]iB asked for [a-z ]+, past the limit of "
                                        rf"{0.7 * peak:.2f} MiB$")
        for row in (r"memory +in use +at peak +own peak", r"parameters( +[0-9.]+ [KM]iB){3}", r"activations( +[0-9.]+ [KM]iB){3}",
                    r"total( +[0-9.]+ MiB){2}", r"kept for reuse +[0-9.]+ [KM]?i?B"):
            self.assertRegex(failed.stderr, rf"(?m)^  {row}$")
        advice = failed.stderr[failed.stderr.index("what helps, most first"):]
        for key in (r"train\.memory_limit_gib: ", r"train\.micro_batch: 4 -> 2 .*--resume accepts it", r"train\.recompute: none -> block .*--resume"):
            self.assertRegex(advice, key)
        self.assertIn("steps done: 0; newest checkpoint: none", advice)
        self.assertFalse((self.root / "no_memory" / "checkpoints" / "LATEST").exists())

        # In a later step: the checkpoint before it is all there is, and good.
        self.train_until(1, recipe, 2)
        saved = (self.root / "no_memory" / "checkpoints" / "LATEST").read_text()
        step = int(re.search(r"step_(\d+)", saved).group(1))
        failed = self.train(1, recipe, "--resume", *limit, expect=5)
        self.assertIn(f"steps done: {step}; newest checkpoint: step {step}", failed.stderr)
        self.assertEqual((self.root / "no_memory" / "checkpoints" / "LATEST").read_text(), saved)
        # With what it advises, and without the limit.
        self.train(1, recipe, "--resume", *limit, "--set", "train.micro_batch=1", "--set", "train.recompute=block")
        done = self.train(1, recipe, "--resume")
        self.assertIn("resumed from step 12", done.stdout)

    def test_one_rank_without_memory_ends_the_run(self):
        done = self.train(2, self.recipe("ranks_memory", lambda t: self.large(t).replace("global_batch: 4", "global_batch: 8")),
                          "--set", "train.memory_limit_gib=0.02", expect=5)
        self.assertRegex(done.stderr, r"lacuna: rank [01]: out of memory on the CPU")


class BadInput(TrainTest):
    def refused(self, expect, pattern, recipe, *options, ranks=1):
        done = self.train(ranks, recipe, *options, expect=expect)
        message = [line for line in done.stderr.splitlines() if line.startswith("lacuna: ") and not line.startswith("lacuna: warning: ")]
        self.assertEqual(len(message), 1, done.stderr)
        self.assertRegex(done.stderr, pattern)

    def test_recipes(self):
        self.refused(2, r"absent\.yaml: cannot read: No such file", self.root / "absent.yaml")
        self.refused(2, r"cannot read: Is a directory", self.root)
        self.refused(2, r"typo\.yaml:\d+:\d+: model\.num_layer: unknown key; did you mean model\.num_layers\?",
                     self.recipe("typo", lambda t: t.replace("num_layers: 2", "num_layer: 2")))
        self.refused(2, r"learning_rate: .*got 1e999|learning_rate: ", self.recipe("rate", lambda t: t.replace("1e-2", ".nan")))
        self.refused(2, r"train\.global_batch", self.recipe("batch"), "--set", "train.global_batch=3", ranks=2)

    def test_data(self):
        self.refused(3, r"tokenizer\.json: cannot open: No such file",
                     self.recipe("no_tokenizer", lambda t: t.replace("tokenizer.json", "none/tokenizer.json")))
        self.refused(3, r"nothing\*\.h5", self.recipe("no_shards", lambda t: t.replace("train*.h5", "nothing*.h5")))
        broken = self.data / "broken.h5"
        shutil.copy(self.data / "train_00000.h5", broken)
        size = broken.stat().st_size
        with open(broken, "r+b") as file:
            file.truncate(size // 2)
        self.refused(3, r"broken\.h5: ", self.recipe("cut", lambda t: t.replace("train*.h5", "broken.h5")))
        broken.write_bytes(b"")
        self.refused(3, r"broken\.h5: ", self.recipe("empty", lambda t: t.replace("train*.h5", "broken.h5")))
        broken.unlink()
        self.refused(2, r"model\.vocab_size = 300", self.recipe("vocabulary", lambda t: t.replace("vocab_size: 320", "vocab_size: 300")))

    def test_run_directory(self):
        recipe = self.recipe("twice", lambda t: t.replace("steps: 12", "steps: 100000"))
        process = subprocess.Popen(self.command(1, recipe), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = self.root / "twice" / "metrics.jsonl"
        while not (log.exists() and '"step":1,"loss"' in log.read_text()):
            time.sleep(0.01)
        try:
            self.refused(2, rf"in use by pid {process.pid} on", recipe, "--resume")
        finally:
            process.kill()
            process.wait()

    def test_other_recipe(self):
        recipe = self.recipe("changed")
        self.train(1, recipe)
        self.refused(2, r"holds the checkpoints of a run; --resume", recipe)
        self.refused(4, r"optimizer\.weight_decay: 0\.1 in the checkpoint, 0\.2 in the recipe", recipe, "--resume", "--set",
                     "optimizer.weight_decay=0.2", "--set", "train.steps=12")
        self.refused(4, r"model\.width: 32 in the checkpoint, 64 in the recipe", recipe, "--resume", "--set", "model.width=64")
        self.train(1, recipe, "--resume", "--set", "optimizer.weight_decay=0.2", "--allow", "optimizer.weight_decay")


if __name__ == "__main__":
    main(own_arguments=2)
