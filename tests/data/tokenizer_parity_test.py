#!/usr/bin/env python3
"""The ids of Lacuna's tokenizer are those of Hugging Face's `tokenizers`, or the file is refused by name.

    tokenizer_parity_test.py .../tokenizer_batch [seed for more random cases]
"""
import copy
import itertools
import json
import random
import sys
import tempfile

import tokenizers
from tokenizer_oracle import LLAMA3, PATTERNS, Batch, learn, library_ids, local_texts, random_texts
from tokenizer_texts import SENTENCES, WHITE_SPACE, constructed, sweep

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Checker:
    def __init__(self, program, folder):
        self.batch = Batch(program, folder)
        self.failures = self.texts = self.documents = self.ended = 0

    def fail(self, name, text):
        self.failures += 1
        if self.failures <= 20:
            print(f"FAILED {name}: {text}"[:1500])

    def same(self, name, document, texts, modes=(False, True)):
        self.documents += 1
        for parse in modes:
            texts, theirs = self.library_ids(document, texts, parse)
            ours = self.batch.encode(document, texts, parse)
            if isinstance(ours, str):
                return self.fail(name, f"refused: {ours}")
            self.texts += len(texts)
            if len(ours) != len(texts):
                self.fail(name, f"{len(ours)} answers to {len(texts)} texts")
            for text, a, b in zip(texts, ours, theirs):
                if a != b:
                    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                    self.fail(name, f"special {'parsed' if parse else 'as text'}, {text[:200]!r}: from token {at} on {a[at:at + 8]}, "
                                    f"the library {b[at:at + 8]}")

    def library_ids(self, document, texts, parse):
        """Without the texts over which the library ends: added tokens that take white space from each other."""
        try:
            return texts, library_ids(document, texts, parse)
        except BaseException as error:  # pyo3's PanicException is no Exception
            if type(error).__name__ != "PanicException":
                raise
            if len(texts) == 1:
                self.ended += 1
                return [], []
        halves = [self.library_ids(document, half, parse) for half in (texts[:len(texts) // 2], texts[len(texts) // 2:])]
        return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]

    def refused(self, name, document, expected):
        """The library reads it; Lacuna says what it does not know."""
        tokenizers.Tokenizer.from_str(json.dumps(document))
        message = self.batch.encode(document, ["a"], False)
        if not isinstance(message, str):
            self.fail(name, "accepted")
        elif expected not in message or message.count("\n") != 1:
            self.fail(name, f"refused with {message!r}, which does not name {expected}")


def changed(base, **sections):
    document = copy.deepcopy(base)
    for key, value in sections.items():
        if key == "model":
            document["model"].update(value)
        else:
            document[key] = value
    return document


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": [*steps]}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def added(base, *tokens):
    first = len(base["model"]["vocab"])
    plain = dict.fromkeys(FLAGS, False)
    return base["added_tokens"] + [plain | {"id": first + i} | token for i, token in enumerate(tokens)]


def check_patterns(check, texts, code_points):
    alone, places = sweep(code_points)
    for pattern in PATTERNS:
        base = learn(pattern, texts, 3000)
        check.same(pattern, base, constructed(code_points) + texts)
        check.same(f"{pattern}, all code points", base, alone + places, modes=(False,))


def check_models(check, base, texts):
    merges = base["model"]["merges"]
    assert isinstance(merges[0], list)
    legacy = changed(base, model={"merges": [" ".join(m) for m in merges]})
    check.same("merges as strings", legacy, texts)
    for name, model in (("legacy", legacy), ("pairs", base)):
        check.same(f"ignore_merges, {name}", changed(model, model={"ignore_merges": True, "merges": model["model"]["merges"][:400]}), texts)
    check.same("byte_fallback, unk_token and fuse_unk without effect",
               changed(base, model={"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}), texts)
    twice = merges[:50] + merges
    check.same("merges listed twice", changed(base, model={"merges": twice}), texts)


def check_pre_tokenizers(check, base, texts):
    llama3 = split(LLAMA3[0])
    for prefix, regex in itertools.product((False, True), repeat=2):
        step = BYTE_LEVEL | {"add_prefix_space": prefix, "use_regex": regex}
        check.same(f"ByteLevel alone, prefix {prefix}, regex {regex}", changed(base, pre_tokenizer=step), texts)
        check.same(f"ByteLevel behind Split, prefix {prefix}, regex {regex}", changed(base, pre_tokenizer=sequence(llama3, step)), texts)
    for individual in (False, True):
        digits = {"type": "Digits", "individual_digits": individual}
        check.same(f"Digits {individual}", changed(base, pre_tokenizer=sequence(digits, BYTE_LEVEL | {"use_regex": True})), texts)
        check.same(f"Split, nested Digits {individual}", changed(base, pre_tokenizer=sequence(llama3, sequence(digits), BYTE_LEVEL)), texts)
    patterns = [(" ", "String"), ("\r\n", "String"), (".*", "String"), (r"\p{L}+", "Regex"), (r"x*", "Regex"), (r"\d", "Regex"),
                (r"(?=(?:\d{3})+(?!\d))", "Regex"), (r"(?<=[a-z])(?=[A-Z])", "Regex"), (r"\s+$", "Regex"), (r"^\s*", "Regex")]
    behaviors = ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
    for (pattern, kind), behavior, invert in itertools.product(patterns, behaviors, (False, True)):
        check.same(f"Split {pattern!r} {behavior} {invert}",
                   changed(base, pre_tokenizer=sequence(split(pattern, behavior, invert, kind), BYTE_LEVEL)), texts[::7], modes=(False,))


def check_normalizers(check, base, texts, code_points):
    forms = [{"type": form} for form in ("NFC", "NFD", "NFKC", "NFKD")]
    marked = [chr(c) for c in code_points] + ["".join((chr(c), m)) for c in code_points[::40] for m in "\u0301\u0323\u3099"]
    for form in forms:
        check.same(form["type"], changed(base, normalizer=form), texts + marked, modes=(False,))
    check.same("normalizers in a row", changed(base, normalizer={"type": "Sequence", "normalizers": forms[::-1]}), texts)
    check.same("no normalizers", changed(base, normalizer={"type": "Sequence", "normalizers": []}), texts[:50])


def check_added_tokens(check, base, rounds, seed):
    """Random sets of tokens that overlap and touch, in random texts of their pieces."""
    source = random.Random(seed)
    contents = ["<a>", "<a>b", "b<a>", "<", "a", "ab", "word", " ", "  ", "\n", " <a>", "<a> ", "e\u0301", "\u00e9", "\u212b", "é!", "x\u200d", "_", "1", "力"]
    pieces = contents + WHITE_SPACE + ["", "A", "z", "<|endoftext|>", "<think>", ".", "a_", "\u0301", "٣", "\u200c", "-"]
    for n in range(rounds):
        chosen = source.sample(contents, source.randint(1, 6))
        tokens = [{"content": c} | {flag: source.random() < 0.4 for flag in FLAGS} for c in chosen]
        normalizer = source.choice([None, None, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}])
        if normalizer:  # texts that a form makes equal are left to chance in the library
            tokens = [t for t in tokens if not (t["normalized"] and t["content"] in {"e\u0301", "\u212b"})]
        in_vocab = [t for t in tokens if t["content"] in base["model"]["vocab"]]
        tokens = [t for t in tokens if t not in in_vocab]
        document = changed(base, added_tokens=added(base, *tokens), normalizer=normalizer,
                           model={"ignore_merges": source.random() < 0.3})
        for token in in_vocab:
            document["added_tokens"].append(token | {"id": base["model"]["vocab"][token["content"]], "special": False})
        check.same(f"added tokens {tokens + in_vocab} {normalizer}", document, random_texts(60, 14, pieces, source.random()) + SENTENCES)


def check_components(check, base):
    """Every component that the library has, by the section where it may stand."""
    normalizer = {
        "BertNormalizer": {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, "Lowercase": {},
        "Strip": {"strip_left": True, "strip_right": True}, "StripAccents": {}, "Nmt": {}, "Prepend": {"prepend": "▁"}, "ByteLevel": {},
        "Replace": {"pattern": {"String": "a"}, "content": "b"}, "Precompiled": {"precompiled_charsmap": ""},
    }
    pre_tokenizer = {
        "BertPreTokenizer": {}, "CharDelimiterSplit": {"delimiter": " "}, "Whitespace": {}, "WhitespaceSplit": {}, "UnicodeScripts": {},
        "Metaspace": {"replacement": "▁", "prepend_scheme": "always", "split": True}, "Punctuation": {"behavior": "Isolated"},
        "FixedLength": {"length": 5},
    }
    decoder = {
        "BPEDecoder": {"suffix": "</w>"}, "WordPiece": {"prefix": "##", "cleanup": True}, "CTC":
        {"pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}, "Replace": {"pattern": {"String": "a"}, "content": "b"}, "Fuse": {},
        "Strip": {"content": " ", "start": 1, "stop": 0}, "ByteFallback": {}, "Metaspace": {"replacement": "▁", "prepend_scheme": "always", "split": True},
    }
    for section, parts, members in (("normalizer", normalizer, "normalizers"), ("pre_tokenizer", pre_tokenizer, "pretokenizers"),
                                    ("decoder", decoder, "decoders")):
        for name, fields in parts.items():
            if name == "Precompiled":
                continue  # only with the tables of a model; refused like the others
            part = {"type": name} | fields
            for value in (part, {"type": "Sequence", members: [part, {"type": "Sequence", members: []}]}):
                check.refused(f"{section} {name}", changed(base, **{section: value}), f'type: "{name}" is not supported')
    models = {
        "WordPiece": {"unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"a": 0}},
        "WordLevel": {"unk_token": "a", "vocab": {"a": 0}}, "Unigram": {"unk_id": 0, "vocab": [["a", 0.0]], "byte_fallback": False},
    }
    for name, fields in models.items():
        document = changed(base, added_tokens=[])
        document["model"] = {"type": name} | fields
        check.refused(f"model {name}", document, f'model.type: "{name}" is not supported')
    for key, value in (("dropout", 0.5), ("continuing_subword_prefix", "##"), ("end_of_word_suffix", "</w>")):
        model = {key: value} if key == "dropout" else {key: value, "merges": []}
        check.refused(key, changed(base, model=model), f"model.{key}")
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}
    pair = {"sep": ["<think>", 1], "cls": ["<|endoftext|>", 0]}
    for processor in (BYTE_LEVEL, template, {"type": "BertProcessing"} | pair, {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": True} | pair,
                      {"type": "Sequence", "processors": [BYTE_LEVEL, template]}):
        check.same(f"post_processor {processor['type']}", changed(base, post_processor=processor), SENTENCES)


def main():
    program = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        check = Checker(program, folder)
        code_points = check.batch.code_points()
        assert len(code_points) > 280000, len(code_points)
        texts = local_texts(800_000)
        base = learn("llama3", texts[:60], 1200)
        some = SENTENCES + constructed(code_points)[-1900::3] + texts[:4]
        if seed is None:
            check_patterns(check, texts, code_points)
            check_models(check, base, some)
            check_pre_tokenizers(check, base, some)
            check_normalizers(check, base, some, code_points)
            check_components(check, base)
        check_added_tokens(check, base, 120 if seed is None else 3000, seed or 3)
        print(f"tokenizers {tokenizers.__version__}: {check.documents} tokenizers, {check.texts} texts, {len(code_points)} code points: "
              f"{check.failures} differences; the library ended over {check.ended} texts")
        return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
