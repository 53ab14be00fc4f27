"""Texts on which tokenizers go wrong: for the parity tests."""
import random

from tokenizer_oracle import random_texts

WHITE_SPACE = [chr(c) for c in [*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200C), 0x200D, 0x2028, 0x2029,
                                0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF]]

SENTENCES = [
    "It's WE'LL they'Ve 'ſ don't'd I'M 'RE 're'll ''s 's's",
    "1 12 123 1234 12345 1234567 12345678901234567890 ٣٤٥٦٧ ⅷ½ ２０２４ 三百 1,234.56e-7 0x1F",
    "Zürich Größe cafe\u0301 A\u030A \u212B ﬁ \u1E9B\u0323 \u0344 \uAC00 \u1100\u1161 \u1100\u1161\u11A8 ǅ ŉ ß ẞ İ ı",
    "稀疏注意力机制读取过去的少数块。専門家はすべてのトークンを見る、カタカナもー〜。희소 주의 메커니즘",
    "Разреженное внимание читает Ёлки. Αραιή προσοχή. תשומת לב דלילה. انتباه متناثر ١٢٣. विरल ध्यान तंत्र। ความสนใจ กระจัดกระจาย",
    "👩‍👩‍👧‍👦 👨🏽‍💻 🏳️‍🌈 🏴‍☠️ 🇩🇪🇫🇷🇯🇵🇺 1️⃣ ❤️‍🔥 ☺︎ 🤷🏿‍♀️🤷🏿‍♀️ 👍🏻👍🏿 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "e\u0301\u0301\u0302 \u0301\u0301 a\u200d\u200cb \u200f\u200e\u202a\u2066 \u00adsoft z\u0335\u0335a\u0335l\u0335g\u0335o",
    "def f(a, b):\n\treturn a @ b  # \u00a0nbsp\u2028line\u180emongolian\u3000wide\u0085next\x00nul\r\r\n\n\r",
    "/* x */ #include <a/b.h>\n//////\n{}[]()\\ != == === <<>> a->b::c $x @y %z ^^^ ~~ `q` \\n",
    "<|endoftext|> <|endoftext|>x<think><think> <|endoftext <|endoftext|\n<think>",
    "http://example.org/a?b=c&d=%20#e me@example.org 2024-01-02T03:04:05Z C:\\dir\\file.txt #hash @at",
]


def constructed(code_points):
    """Everything but the sweep of code points and the local files."""
    texts = [""] + SENTENCES
    # white space of every kind, alone, in pairs, before letters, digits, punctuation and line ends
    texts += WHITE_SPACE
    texts += [a + b for a in WHITE_SPACE for b in WHITE_SPACE]
    texts += [f"x{a}{b}y{a}{a}{b}1{b} .{a}\n{b}\r\n{a}" for a in WHITE_SPACE for b in WHITE_SPACE]
    for end in ("\r\n", "\n", "\r", "\n\r"):
        texts += [f"a{end}b{end}{end} c {end}\td{end}{end}{end}", f"{end}", f"  {end}  {end}x", f"word.{end}{end}({end})1{end}2"]
    # long runs of one character
    for unit in ["a", "A", " ", "\n", "\r\n", "\t", "^", "_", "=", "1", "é", "\u0301", "力", "あ", "😀", "\u200d", "'", "'s", "Aa", "a ", " \n"]:
        texts += [unit * n for n in (2, 3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 1000)] + [unit * 20000, "x" + unit * 300 + "x"]
    # random strings of what the patterns tell apart
    pieces = list("abzAZ01289 \t\n\r'\"#.,;:!?_-+=<>/\\|[](){}$@%^&*~`") + [
        "'s", "'LL", " ", "  ", "\r\n", "é", "e\u0301", "ß", "ſ", "力", "ー", "한", "١", "½", "²", "\u00a0", "\u2028", "\u200d", "😀", "🏽", "\u0301", "€",
        "§", "\ufffd", "\x00", "\x7f", "ǅ", "ª", "\u180e", "the", "return", "token"]
    texts += random_texts(3000, 40, pieces, 1)
    # random bytes made UTF-8, and random characters of Unicode 14
    source = random.Random(2)
    assigned = set(code_points)
    for n in range(600):
        high = (0x100, 0x100, 0x80)[n % 3]
        text = bytes(source.randrange(high) for _ in range(source.randint(1, 200))).decode("utf-8", "replace")
        texts.append("".join(c if ord(c) in assigned else "\ufffd" for c in text))
    texts += ["".join(chr(source.choice(code_points)) for _ in range(source.randint(1, 60))) for _ in range(1500)]
    return texts


def sweep(code_points):
    """Each code point alone, and many a text between letters, digits, spaces, punctuation and line ends."""
    alone = [chr(c) for c in code_points]
    contexts = ("a{0}b {0} {0}c", "1{0}2 {0}3", " {0}.{0}\n{0}\r\n", "{0}{0}'s{0}")
    places = []
    for context in contexts:
        for i in range(0, len(alone), 64):
            places.append(" ".join(context.format(c) for c in alone[i:i + 64]))
    return alone, places
