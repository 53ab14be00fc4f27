#!/usr/bin/env python3
"""Writes tokenizer_golden.json: ids that the `tokenizers` library gives (pip install tokenizers).

    python3 tests/data/tokenizer_golden.py > tests/data/tokenizer_golden.json

The file holds a corpus, the tokenizer that the library learns from it, and cases: a JSON merge patch of that tokenizer and, for each
text, the ids with special tokens as text and with special tokens parsed.
"""
import copy
import json

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
import tokenizers

CORPUS = [
    "The router scores every token against each expert and keeps the six best. The shared experts see every token.\n"
    "def route(tokens, experts):\n    scores = tokens @ experts.T\n    return scores.topk(6)\n",
    "Sparse attention reads a few blocks of the past: the first, the last two and those whose scores are highest. "
    "It's what the model's gates don't need that isn't read; we'll see they've learned it.\r\n\r\n",
    "In 2024 there were 1234567 tokens, 12 of them in Zürich, Łódź and São Paulo. Größe, naïve, déjà vu, naïve, déjà vu, Größe.\n",
    "稀疏注意力 読む 注意力 注意力 まばら まばら. Разреженное внимание, внимание, внимание. \U0001f600\U0001f600\U0001f680\n",
    "----------------------------------------------------------------\n================================================================\n",
    "    if (a == b) {\n        return a + b;\n    }\n\n\n\tfor (int i = 0; i < 10; ++i) sum += values[i];\n" * 3,
]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]

TEXTS = [
    "",
    "The experts see every token.",
    "  two  spaces,\ttabs\t\t, lines\n\n\nand \r\n\r\n ends   \n",
    "It's WE'LL they'Ve 'ſ don't'd",
    "1 12 123 1234 12345 1234567 12345678901234567890 ٣٤٥ ⅷ½",
    "Zürich Größe cafe\u0301 A\u030A \u212B ﬁ ２０ \u1E9B\u0323 \u0344 \uAC00 \u1100\u1161",
    "稀疏注意力 まばら внимание \U0001f600\U0001f468\u200d\U0001f469 \u089d\u0316 \u1df6\u0316",
    "<|endoftext|> <|endoftext|>x<think><think> <|endoftext <|endoftext|",
    "a <tool>\t b  <tool>c<toolbox> e\u0301",
    "<tool>_ 77,77a 177 <tool>. e\u0301e\u0301 (e\u0301)",
    "=" * 47 + " " + "=" * 48 + " " + "=" * 49 + " " + "-" * 200,
    "returnreturnreturntokensattentionscoresblocksexpertsrouter" * 4,
    "\ufeffdef f(a, b):\n\treturn a @ b  # \u00a0nbsp\u2028line\u180emongolian\u3000wide\u0085next\x00nul",
    "/* x */ #include <a/b.h>\n//////\n{}[]()\\",
]


def split(*patterns, **options):
    steps = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} | options for p in patterns]
    return {"type": "Sequence", "pretokenizers": steps + [byte_level(False)]}


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def added(base, *tokens):
    first = max(base["model"]["vocab"].values()) + 1
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"added_tokens": base["added_tokens"] + [plain | {"id": first + i} | token for i, token in enumerate(tokens)]}


def cases(base):
    nfc = {"normalizer": {"type": "NFC"}}
    return {
        "llama3": {},
        "llama3_ignore_merges": {"model": {"ignore_merges": True}},
        "qwen_nfc": {"pre_tokenizer": split(LLAMA3.replace("{1,3}", "")), **nfc},
        "nfkc_in_sequence": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}},
        "nfd": {"normalizer": {"type": "NFD"}},
        "nfkd": {"normalizer": {"type": "NFKD"}},
        "cl100k": {"pre_tokenizer": split(LLAMA3.replace("{1,3}", "{1,3}+").replace("[\\r\\n]+|", "[\\r\\n]|"))},
        "o200k": {"pre_tokenizer": split(O200K)},
        "deepseek": {"pre_tokenizer": split(*DEEPSEEK)},
        "removed_inverted": {"pre_tokenizer": split(r"\p{L}+|\p{N}", behavior="Removed", invert=True)},
        "literal": {"pre_tokenizer": split("", pattern={"String": "to"})},
        "gpt2": {"pre_tokenizer": byte_level(True)},
        "prefix_space": {"pre_tokenizer": byte_level(True, prefix=True)},
        "prefix_space_of_words": {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": split(LLAMA3)["pretokenizers"][:1] + [byte_level(False, prefix=True)]}
        },
        "digits": {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(True)]}
        },
        "digit_runs": {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, byte_level(True)]}
        },
        "added_plain": added(base, {"content": "<tool>"}, {"content": "<tool>c"}, {"content": "  ", "normalized": True}),
        "added_normalized": nfc | added(base, {"content": "e\u0301", "normalized": True}, {"content": "\u212b"}),
        "added_strip": added(base, {"content": "<tool>", "lstrip": True, "rstrip": True}),
        "added_strips_touch": added(base, {"content": "<tool>", "lstrip": True, "rstrip": True}, {"content": " "}),
        "added_single_word": added(base, {"content": "<tool>", "single_word": True}, {"content": "e\u0301", "single_word": True}, {"content": "77", "single_word": True}),
        "added_like_a_byte": {"model": {"ignore_merges": True}} | added(base, {"content": "<tool>"}, {"content": "\u00e9", "id": base["model"]["vocab"]["\u00e9"]}),
        "digit_groups": {"pre_tokenizer": split(r"(?=(?:\d{3})+(?!\d))")},
        "merged_with_next": {"pre_tokenizer": split(r"\s", behavior="MergedWithNext")},
        "merged_with_previous_inverted": {"pre_tokenizer": split(r"\p{L}+", behavior="MergedWithPrevious", invert=True)},
        "contiguous": {"pre_tokenizer": split(r"[=-]", behavior="Contiguous")},
        "added_over_special": added(base, {"content": "x<think>"}, {"content": "<think><"}),
    }


def merge_patch(target, patch):
    if not isinstance(patch, dict):
        return patch
    target = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def learn():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        special_tokens=["<|endoftext|>", "<think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())


def main():
    base = learn()
    result = {"tokenizers": tokenizers.__version__, "corpus": CORPUS, "base": base, "texts": TEXTS, "cases": {}}
    for name, patch in cases(base).items():
        tokenizer = Tokenizer.from_str(json.dumps(merge_patch(base, patch)))
        ids = {}
        for kind, as_text in (("as_text", True), ("parsed", False)):
            tokenizer.encode_special_tokens = as_text
            ids[kind] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        result["cases"][name] = {"patch": patch} | ids
    # A case per line: the differences of a new version are readable.
    lines = [f'  {json.dumps(name)}: {json.dumps(case)}' for name, case in result.pop("cases").items()]
    head = json.dumps(result)[:-1]
    print(head + ',\n"cases": {\n' + ",\n".join(lines) + "\n}}")


main()
