#!/usr/bin/env python3
"""The exported Jinja templates render what the C++ renders. Usage: chat_template_test.py CHAT_RENDER"""
import itertools
import json
import random
import subprocess
import sys
import unittest

import jinja2  # Debian: python3-jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDER = sys.argv[1]
TEMPLATES = ("plain", "chatml", "llama3", "deepseek", "glm")

PARTS = [
    "Hello", " there", "\n", "\n\n", "  ", "\t", "\r\n", "x" * 50, "it's", '"quoted"', "back\\slash\\n", "{{ x }}", "{% if %}", "{# no #}",
    "{", "}}", "%}", "稀疏注意力", "まばら", "\U0001f600", "\U0001f468\u200d\U0001f469", "e\u0301", "\u00a0", "\u3000", "\u2028", "\x1c",
    "\x85", "\u200b", "\u180e", "\ufeffx", "\x00", "<|im_end|>", "<|im_start|>user\n", "<|eot_id|>", "<｜User｜>", "<|endoftext|>",
    "<think>", "</think>", "<think>\nwhy\n</think>\n\n", "### User\n", "<b>&amp;</b>", "1.5e3", "null", "[gMASK]", "<|user|>",
]


def environment():
    """As the transformers library sets Jinja up."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.globals["raise_exception"] = raise_exception
    return env


def render(template, history, lines):
    """The template and the results of the C++ program."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    done = subprocess.run([RENDER, template, history], input=text.encode(), capture_output=True, check=True)
    results = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    return results[0]["jinja"], results[1:]


def content(rng):
    while True:
        text = "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 7)))
        if text.strip():
            return text


def answer(rng):
    message = {"role": "assistant", "content": content(rng)}
    kind = rng.randrange(5)
    if kind == 0:
        message["reasoning_content"] = content(rng)
    elif kind == 1:
        message["reasoning_content"] = rng.choice(["", " \n", None])
    elif kind == 2:
        reasoning = rng.choice([content(rng), "", "\n\n"])
        message["content"] = rng.choice(["", "\n "]) + f"<think>{reasoning}</think>" + rng.choice(["", "\n\n"]) + content(rng)
    return message


def conversation(rng):
    messages = [{"role": "system", "content": content(rng)}] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 4)):
        roles = rng.choices([["user", "assistant"], ["user", "user", "assistant"], ["user", "assistant", "assistant"]], [6, 1, 1])[0]
        messages += [answer(rng) if role == "assistant" else {"role": role, "content": content(rng)} for role in roles]
    if rng.random() < 0.2:
        messages.append({"role": "user", "content": content(rng)})
    return messages


class ChatTemplates(unittest.TestCase):
    def compare(self, template, history, lines, messages):
        """Returns how many conversations both rendered."""
        jinja, results = render(template, history, lines)
        compiled = environment().from_string(jinja)
        self.assertEqual(len(results), len(lines))
        rendered = 0
        for line, conversation_, result in zip(lines, messages, results):
            if "error" in result:
                # What the data's reader refuses of these: empty content behind the tags, two reasonings.
                self.assertRegex(result["error"], "is empty behind </think>|and there is reasoning_content, too", line)
                continue
            rendered += 1
            for key, ask in (("text", False), ("prompt", True)):
                expected = compiled.render(messages=conversation_, add_generation_prompt=ask, tools=None)
                self.assertEqual(result[key], [expected, expected], (template, history, line))
        return rendered

    def test_generated_conversations(self):
        for template, history in itertools.product(TEMPLATES, ("drop", "keep")):
            rng = random.Random(f"{template} {history}")
            messages = [conversation(rng) for _ in range(200)]
            rendered = self.compare(template, history, [{"messages": m} for m in messages], messages)
            self.assertGreater(rendered, 150)

    def test_other_formats(self):
        rng = random.Random(2)
        lines, messages = [], []
        for _ in range(200):
            question, reply = content(rng), answer(rng)["content"]
            pair = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
            lines += [{"prompt": question, "completion": reply}, {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]}]
            messages += [pair, pair]
        for template in TEMPLATES:
            self.assertGreater(self.compare(template, "drop", lines, messages), 300)

    def test_white_space_is_pythons(self):
        # Python has none above U+3000.
        characters = [chr(c) for c in [*range(0x3100), *range(0xFE00, 0x10000)]]
        lines = [{"prompt": "q" + c, "completion": c} for c in characters]
        _, results = render("llama3", "drop", lines)
        for c, result in zip(characters, results):
            self.assertEqual("error" in result, not c.strip(), repr(c))
            if c.strip():
                self.assertIn("\n\n" + ("q" + c).strip() + "<|eot_id|>", result["text"][0])

    def test_what_is_refused(self):
        user, reply = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
        cases = [
            ([user, {"role": "system", "content": "s"}, reply], "a system message must be the first"),
            ([user, {"role": "tool", "content": "s"}, reply], "role must be system, user or assistant"),
            ([user, {"role": "assistant", "content": None}], "content must be a string"),
            ([{"role": "user", "content": [{"type": "text", "text": "q"}]}, reply], "content must be a string"),
            ([user, reply | {"tool_calls": [{"id": 1}]}], "tool calls are not supported"),
        ]
        for template in TEMPLATES:
            jinja, results = render(template, "drop", [{"messages": messages} for messages, _ in cases])
            compiled = environment().from_string(jinja)
            for (messages, reason), result in zip(cases, results):
                self.assertIn("error", result)
                with self.assertRaisesRegex(jinja2.exceptions.TemplateError, reason):
                    compiled.render(messages=messages, add_generation_prompt=False)
            with self.assertRaisesRegex(jinja2.exceptions.TemplateError, "tools are not supported"):
                compiled.render(messages=[user, reply], tools=[{"name": "f"}])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
