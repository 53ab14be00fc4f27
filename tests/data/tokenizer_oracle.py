"""What the tokenizer parity tests share: texts, and tokenizers learnt by the `tokenizers` library."""
import json
import os
import pathlib
import random
import struct
import subprocess
import sysconfig

os.environ["RUST_BACKTRACE"] = "0"
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPECIAL = ["<|endoftext|>", "<think>"]

# Written down from the published files, not taken from Lacuna: these are the oracle.
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
LLAMA3 = [_HEAD + r"\p{N}{1,3}|" + _TAIL]
QWEN2 = [_HEAD + r"\p{N}|" + _TAIL]
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
PATTERNS = ("gpt2", "llama3", "qwen2", "deepseek3")


def untrained(pattern):
    """A tokenizer without vocabulary, assembled as the model `pattern` (or a regular expression) has it."""
    tokenizer = Tokenizer(models.BPE())
    splits = {"gpt2": [], "llama3": LLAMA3, "qwen2": QWEN2, "deepseek3": DEEPSEEK3}.get(pattern, [pattern])
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if pattern == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn(pattern, texts, vocab_size, min_frequency=2, special=SPECIAL):
    tokenizer = untrained(pattern)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())


def local_texts(max_bytes):
    """Prose and code of this repository and of Python's own library, without CRLF and byte order marks."""
    paths = sorted(p for folder in ("core", "data", "docs", "nsa", "recipes", "tests") for p in (ROOT / folder).rglob("*")
                   if p.suffix in {".cc", ".h", ".md", ".py", ".yaml"})
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + [p for pair in zip(paths, sorted(library.glob("*.py"))) for p in pair]
    texts, size = [], 0
    for path in paths:
        text = path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n").lstrip("\ufeff")
        if text:
            texts.append(text)
        size += len(text)
        if size > max_bytes:
            return texts
    raise SystemExit(f"only {size} bytes of local text")


class Batch:
    """The driver tokenizer_batch."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def code_points(self):
        return [int(line) for line in subprocess.run([self.program, "code-points"], capture_output=True, text=True, check=True).stdout.split()]

    def encode(self, document, texts, parse):
        """Ids of each text, or the message of a tokenizer that is refused."""
        path = pathlib.Path(self.folder) / "tokenizer.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document, ensure_ascii=False), encoding="utf-8")
        data = [t.encode() for t in texts]
        run = subprocess.run([self.program, str(path), "parse" if parse else "text"], capture_output=True,
                             input=b"".join(struct.pack("<I", len(t)) + t for t in data))
        if run.returncode == 3:
            return run.stderr.decode()
        if run.returncode != 0:
            raise SystemExit(f"{self.program} ended with {run.returncode}: {run.stderr.decode()}")
        ids, at = [], 0
        while at < len(run.stdout):
            (count,) = struct.unpack_from("<I", run.stdout, at)
            ids.append(list(struct.unpack_from(f"<{count}i", run.stdout, at + 4)))
            at += 4 + 4 * count
        return ids


def library_ids(document, texts, parse):
    tokenizer = Tokenizer.from_str(document if isinstance(document, str) else json.dumps(document))
    tokenizer.encode_special_tokens = not parse
    return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def random_texts(count, length, pieces, seed):
    source = random.Random(seed)
    return ["".join(source.choice(pieces) for _ in range(source.randint(1, length))) for _ in range(count)]
