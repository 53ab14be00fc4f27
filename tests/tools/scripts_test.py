#!/usr/bin/env python3
"""tools/setup.sh, tools/test.sh and .ci/run with every program they call replaced: what they call, and that no failure is lost."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUMMARY = "100% tests passed, 0 tests failed out of 1"

# Notes its call, and fails where it is the FAIL_AT-th.
STUB = """#!/bin/bash
echo "${{0##*/}} $*" >> "$CALLS"
[ "$(wc -l < "$CALLS")" != "${{FAIL_AT:-}}" ] || exit 7
{action}
"""
ACTIONS = {
    "cmake": "",
    "ctest": f'echo "{SUMMARY}"',
    "apt-get": '[ "$1" != install ] || touch "$INSTALLED"',
    "sudo": 'exec "$@"',
}


# What is run as it is, in a tree of its own, and what is a stub there.
SCRIPTS = ("tools/setup.sh", "tools/test.sh", ".ci/run")
REPLACED = ("tools/setup_python.sh", "tools/setup_cudnn_frontend.sh", "tools/quickstart.sh")


class Scripts(unittest.TestCase):
    def setUp(self):
        self.temp = tempfile.TemporaryDirectory(prefix="lacuna_scripts_test_")
        self.addCleanup(self.temp.cleanup)
        self.bin = pathlib.Path(self.temp.name) / "bin"
        self.bin.mkdir()
        self.calls = pathlib.Path(self.temp.name) / "calls"
        self.installed = pathlib.Path(self.temp.name) / "installed"
        self.tree = pathlib.Path(self.temp.name) / "tree"
        for script in SCRIPTS:
            (self.tree / script).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / script, self.tree / script)
        for script in REPLACED:
            (self.tree / script).write_text(STUB.format(action=""))
            (self.tree / script).chmod(0o755)
        for name, action in ACTIONS.items():
            self.stub(name, STUB.format(action=action))
        self.stub("dpkg-query", '#!/bin/bash\n[ -e "$INSTALLED" ] && echo -n installed\n')
        self.stub("id", '#!/bin/bash\necho "$USER_ID"\n')
        for name in ("bash", "env", "dirname", "nproc", "wc", "touch"):
            (self.bin / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())

    def stub(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run_script(self, script, *arguments, user=0, fail_at=0, installed=True):
        self.calls.write_text("")
        if installed:
            self.installed.touch()
        environment = {"PATH": str(self.bin), "CALLS": str(self.calls), "INSTALLED": str(self.installed), "USER_ID": str(user),
                       "FAIL_AT": str(fail_at)}
        done = subprocess.run([self.bin / "bash", self.tree / script, *arguments], env=environment, capture_output=True, text=True)
        self.called = self.calls.read_text().splitlines()
        return done

    def test_setup_check_only_looks(self):
        done = self.run_script("tools/setup.sh", "--check", installed=False)
        self.assertEqual((done.returncode, done.stdout, self.called), (1, "", []))
        self.assertRegex(done.stderr, r"^setup: missing: g\+\+ cmake .*\n$")
        done = self.run_script("tools/setup.sh", "--check")
        self.assertEqual((done.returncode, done.stderr, self.called), (0, "", []))
        self.assertRegex(done.stdout, r"^setup: all \d+ packages are installed\n$")

    def test_setup_refuses_other_options(self):
        done = self.run_script("tools/setup.sh", "--chekc", installed=False)
        self.assertEqual((done.returncode, self.called), (2, []))
        self.assertIn("unknown option --chekc", done.stderr)

    def test_setup_as_root_installs_once(self):
        self.assertEqual(self.run_script("tools/setup.sh", installed=False).returncode, 0)
        self.assertEqual([call.split()[:2] for call in self.called], [["apt-get", "update"], ["apt-get", "install"]])
        self.assertIn(" libopenblas-openmp-dev ", self.called[1])
        self.assertEqual(self.run_script("tools/setup.sh", installed=False).returncode, 0)
        self.assertEqual(self.called, [])

    def test_setup_as_a_user_goes_through_sudo_and_asks_nothing(self):
        self.assertEqual(self.run_script("tools/setup.sh", user=1000, installed=False).returncode, 0)
        self.assertEqual([call.split()[0] for call in self.called], ["sudo", "apt-get"] * 2)
        for call in self.called[::2]:
            self.assertTrue(call.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get "), call)

    def test_setup_as_a_user_without_sudo_names_the_packages(self):
        (self.bin / "sudo").unlink()
        done = self.run_script("tools/setup.sh", user=1000, installed=False)
        self.assertEqual((done.returncode, self.called), (1, []))
        self.assertRegex(done.stderr, r"^setup: need root or sudo to install: g\+\+ cmake ")

    def test_every_failing_step_fails_the_script_and_ends_it(self):
        for script, steps in (("tools/setup.sh", 2), ("tools/test.sh", 5), (".ci/run", 10)):
            for step in range(1, steps + 1):
                with self.subTest(script=script, step=step):
                    self.installed.unlink(missing_ok=True)
                    done = self.run_script(script, fail_at=step, installed=False)
                    self.assertEqual((done.returncode, len(self.called)), (7, step), self.called)
            self.installed.unlink(missing_ok=True)
            self.assertEqual(self.run_script(script, installed=False).returncode, 0)
            self.assertEqual(len(self.called), steps, self.called)

    def test_ctests_summary_is_the_last_line(self):
        for script in ("tools/test.sh", ".ci/run"):
            self.assertEqual(self.run_script(script).stdout.splitlines()[-1], SUMMARY)

    def test_options_reach_ctest_and_matching_no_test_is_an_error(self):
        self.run_script("tools/test.sh", "-R", "nsa")
        self.assertTrue(self.called[-1].startswith("ctest ") and self.called[-1].endswith(" -R nsa"), self.called)
        self.assertIn("--no-tests=error", self.called[-1].split())

    def test_ci_builds_cuda_and_runs_the_stages(self):
        self.run_script(".ci/run")
        self.assertIn("cmake --preset cuda-release -DLACUNA_CUDNN=ON -DLACUNA_BUILD_TESTS=OFF", self.called)
        self.assertIn("quickstart.sh --stages", self.called)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
