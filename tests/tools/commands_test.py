#!/usr/bin/env python3
"""Every command's --help, bad command lines, and the recipes that come with Lacuna. Usage: commands_test.py PROGRAM [TEST ...]"""
import re
import shlex

from support import SOURCE, ProgramTest, main


class Commands(ProgramTest):
    @classmethod
    def setUpClass(cls):  # needs no text
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def help(self, command):
        done = self.lacuna(*command, "--help")
        self.assertEqual(done.stderr, "")
        return done.stdout

    def commands(self, parent=()):
        """All commands below `parent`, as --help lists them."""
        section = re.search(r"^Subcommands:\n((?:  .*\n)+)", self.help(parent), re.M)
        for name in re.findall(r"^  (\S+)", section[1], re.M) if section else []:
            yield (*parent, name)
            yield from self.commands((*parent, name))

    def test_every_help_has_an_example(self):
        commands = list(self.commands())
        self.assertLessEqual({("train",), ("inspect",), ("tokenizer", "encode"), ("bench", "cpu"), ("ckpt", "show")}, set(commands))
        for command in commands:
            text = self.help(command)
            examples = re.findall(r"\b(lacuna " + " ".join(command) + r"\b.*)", text[text.index("Example"):])
            self.assertTrue(examples, f"{command}: no example")
            for example in examples:
                # The options of an example exist.
                words = shlex.split(example.split(" | ")[0])[1:]
                used = next(c for n in (2, 1) for c in [tuple(words[:n])] if c in commands)
                for option in (word for word in words if word.startswith("-") and word != "-"):
                    self.assertRegex(self.help(used), rf"(?m)^  (-\w,)?{option}\b", f"{command}: {example}")

    def test_readme_lists_every_command(self):
        readme = (SOURCE / "README.md").read_text()
        for command in self.commands():
            if len(command) == 1:
                self.assertIn(f"`lacuna {command[0]}", readme)

    def test_bad_command_lines(self):
        self.refused(2, r"command line: .*; see lacuna --help$")
        self.refused(2, r"command line: trian: unknown command; see lacuna --help$", "trian")
        self.refused(2, r"command line: show: unknown argument; see lacuna plan --help$", "plan", "a.yaml", "show")
        for command in self.commands():
            name = " ".join(command)
            self.refused(2, rf"command line: --no-such-option: unknown (argument|command); see lacuna {name} --help$", *command, "--no-such-option")
            self.assertIn("Usage: ", self.help(command))

    def test_shipped_recipes(self):
        recipes = sorted([*(SOURCE / "recipes").glob("*.yaml"), *(SOURCE / "recipes").glob("nsa_27b/*.yaml")])
        self.assertGreaterEqual(len(recipes), 4)
        for recipe in recipes:
            ranks = 8 if recipe.parent.name == "nsa_27b" else 2
            plan = self.lacuna("plan", recipe, "--ranks", ranks).stdout
            for heading in ("Parameters", f"{ranks} ranks"):
                self.assertIn(heading, plan)
            self.assertNotRegex(plan, r"\b(nan|inf)\b")
            self.assertEqual("Sparsity" in plan, "attention: nsa" in recipe.read_text())
            resolved = self.lacuna("plan", recipe, "--resolved").stdout
            self.assertIn("dir: runs/", resolved)
        plan = self.lacuna("plan", SOURCE / "recipes" / "nsa_27b" / "pretrain_8k.yaml").stdout
        self.assertRegex(plan, r"27\.\d+ ?B|27,\d{3},\d{3},\d{3}")

    def test_plan_names_the_place(self):
        recipe = SOURCE / "recipes" / "quickstart.yaml"
        self.refused(2, r"--set model\.layers: model\.layers: unknown key", "plan", recipe, "--set", "model.layers=3")
        self.refused(2, r"\S+quickstart\.yaml:\d+:\d+: train\.global_batch = 2: must be a multiple", "plan", recipe, "--ranks", 3)
        self.refused(2, r"plan: give a recipe", "plan")


if __name__ == "__main__":
    main()
