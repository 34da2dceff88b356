#!/usr/bin/env python3
"""Makes tests/text/v4_tokenizer.json and the expected ids in tests/text/*.ids.txt (run by hand, never by the build).

Needs Hugging Face `tokenizers` (PyPI, 0.23 was used). The strings are not stored: tests/text/sample_text.h generates the same
ones from sample_material.json and the same counter-based random numbers. For each string the files keep a 64-bit FNV-1a hash of its bytes, its number of
ids and a hash of its ids; the first strings are kept with their ids in full, so a mismatch can be looked at.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/text/make_vectors.py
"""
import json
import os
import sys

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDLING = os.path.join(HERE, "../../assets/models/seedling/tokenizer.json")
MASK = (1 << 64) - 1
N_STRINGS = 12000
N_FULL = 200
N_OTHER = 2000  # strings for the other pre-tokenizers

# ---- the same numbers as engine/base/rng.h


def mix64(z):
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fnv1a64(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


class Rng:
    """Draws of one stream in order: CounterRng{seed, stream}.bits(0), bits(1), ..."""

    def __init__(self, seed, stream):
        self.key = mix64(seed ^ mix64(stream))
        self.counter = 0

    def below(self, n):
        bits = mix64((self.key + self.counter * 0xD1342543DE82EF95) & MASK)
        self.counter += 1
        return (bits >> 33) % n


# ---- the strings; sample_text.h is the same in C++ (order of draws matters)

MATERIAL = json.load(open(os.path.join(HERE, "sample_material.json"), encoding="utf-8"))
WORDS, SPACES, BLOCKS = MATERIAL["words"], MATERIAL["spaces"], MATERIAL["blocks"]


def words_string(rng):
    out = []
    for _ in range(1 + rng.below(24)):
        out.append(WORDS[rng.below(len(WORDS))])
        out.append(SPACES[rng.below(len(SPACES))])
    return "".join(out).encode()


def code_points_string(rng):
    out = []
    low, high = BLOCKS[rng.below(len(BLOCKS))]
    for _ in range(1 + rng.below(40)):
        if rng.below(4) == 0:
            low, high = BLOCKS[rng.below(len(BLOCKS))]
        out.append(chr(low + rng.below(high - low)))
    return "".join(out).encode()


def ascii_string(rng):
    return bytes(0x20 + rng.below(0x5F) for _ in range(1 + rng.below(60)))


def digits_string(rng):
    out = []
    for _ in range(1 + rng.below(12)):
        for _ in range(1 + rng.below(9)):
            out.append(chr(0x30 + rng.below(10)))
        out.append(" +-*/=.,:%"[rng.below(10)])
    return "".join(out).encode()


def broken_string(rng):
    """Valid text in which bytes are replaced, so that sequences break in every way."""
    data = bytearray(words_string(rng))
    for _ in range(1 + rng.below(8)):
        data[rng.below(len(data))] = 0x80 + rng.below(0x80)
    return bytes(data)


def long_string(rng):
    """One class of character for longer than the short form of merging takes."""
    low, high = BLOCKS[rng.below(len(BLOCKS))]
    return "".join(chr(low + rng.below(1 + rng.below(min(high - low, 8)))) for _ in range(100 + rng.below(300))).encode()


KINDS = [words_string, words_string, words_string, code_points_string, ascii_string, digits_string, broken_string, long_string]


def sample(index):
    rng = Rng(20260801, index)
    return KINDS[index % len(KINDS)](rng)


# ---- tokenizers

V4_WORDS = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" + "\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[" +
            "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+").replace('\\"', '"')
V4_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
ADDED = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<｜latest_reminder｜>", "<｜action｜>", "<｜query｜>",
         "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜read_url｜>", "<th"]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert)


def v4_pre_tokenizer():
    return pre_tokenizers.Sequence([split(r"\p{N}{1,3}"), split(V4_CJK), split(V4_WORDS),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = v4_pre_tokenizer()
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=6000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=SPECIAL, min_frequency=2)
    texts = [sample(1_000_000 + i).decode("utf-8", "replace") for i in range(20000)]
    texts = [x for x in texts if "\ufffd" not in x]
    t.train_from_iterator(texts, trainer)
    t.add_tokens([tokenizers.AddedToken(a, normalized=True, special=False) for a in ADDED])
    return t


def write_tokenizer(t, path):
    j = json.loads(t.to_str())
    # merges as strings where that is possible: the older form of the format, as V4's own files have it
    j["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in j["model"]["merges"]]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(j, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


# ---- expected ids


def ids_hash(ids):
    return fnv1a64(b"".join(i.to_bytes(4, "little") for i in ids))


def write_vectors(t, path, n_strings, n_full):
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"strings {n_strings} full {n_full} tokenizers {tokenizers.__version__}\n")
        for i in range(n_strings):
            data = sample(i)
            ids = t.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids
            line = f"{fnv1a64(data) & 0xFFFFFFFF:08x} {len(ids)} {ids_hash(ids) & 0xFFFFFFFF:08x}"
            if i < n_full:
                line += " " + " ".join(map(str, ids))
            f.write(line + "\n")


# Other pre-tokenizers over the same vocabulary: name, the JSON that replaces "pre_tokenizer".
def variants():
    level = pre_tokenizers.ByteLevel
    plain = level(add_prefix_space=False, use_regex=False)
    seq = pre_tokenizers.Sequence
    yield "gpt2", level(add_prefix_space=False, use_regex=True)
    yield "gpt2_prefix", level(add_prefix_space=True, use_regex=True)
    yield "llama3", seq([split(LLAMA3), plain])
    yield "qwen2", seq([split(QWEN2), plain])
    yield "digits_one", seq([pre_tokenizers.Digits(individual_digits=True), level(add_prefix_space=False, use_regex=True)])
    yield "digits_prefix", seq([pre_tokenizers.Digits(individual_digits=False), level(add_prefix_space=True, use_regex=True)])
    yield "numbers_removed", seq([split(r"\p{N}+", "removed"), plain])
    yield "numbers_previous", seq([split(r"\p{N}", "merged_with_previous"), plain])
    yield "numbers_next", seq([split(r"\p{N}{1,3}", "merged_with_next"), plain])
    yield "numbers_contiguous", seq([split(r"\p{N}", "contiguous", True), plain])
    yield "words_inverted", seq([split(V4_WORDS, "removed", True), plain])
    yield "literal", seq([pre_tokenizers.Split("e", behavior="merged_with_next"), plain])


# Added tokens that take the white space beside them, overlap, and are normalized or not; ids of strings made of their parts.
def write_added(base, path):
    t = Tokenizer.from_str(json.dumps(base))
    t.add_tokens([tokenizers.AddedToken("[L]", lstrip=True, normalized=False), tokenizers.AddedToken("[R]", rstrip=True, normalized=True),
                  tokenizers.AddedToken("[LR]", lstrip=True, rstrip=True, normalized=False, special=True),
                  tokenizers.AddedToken("[", normalized=True), tokenizers.AddedToken("[L][L]", normalized=False)])
    parts = ["[L]", "[R]", "[LR]", "[", "[L", "]", " ", "  ", "\n", "\u3000", "a", "<think>", "<th", "1"]
    cases = []
    for i in range(400):
        rng = Rng(3, i)
        text = "".join(parts[rng.below(len(parts))] for _ in range(1 + rng.below(10)))
        cases.append({"text": text, "ids": t.encode(text, add_special_tokens=False).ids})
    added = json.loads(t.to_str())["added_tokens"]
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"added_tokens": ' + json.dumps(added, ensure_ascii=False) + ',\n"cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")


def main():
    path = os.path.join(HERE, "v4_tokenizer.json")
    if "--keep" not in sys.argv:
        write_tokenizer(train(), path)
    base = json.load(open(path, encoding="utf-8"))
    write_vectors(Tokenizer.from_str(json.dumps(base)), os.path.join(HERE, "v4_ids.txt"), N_STRINGS, N_FULL)
    write_vectors(Tokenizer.from_file(SEEDLING), os.path.join(HERE, "seedling_ids.txt"), N_OTHER, 20)
    write_added(base, os.path.join(HERE, "added_tokens.json"))
    kinds = {}
    with open(os.path.join(HERE, "variant_ids.txt"), "w", encoding="utf-8") as f:
        for name, pre in variants():
            t = Tokenizer.from_str(json.dumps(base))
            t.pre_tokenizer = pre
            kinds[name] = json.loads(t.to_str())["pre_tokenizer"]
            ids = [t.encode(sample(i).decode("utf-8", "replace"), add_special_tokens=False).ids for i in range(N_OTHER)]
            f.write(name + " " + " ".join(f"{ids_hash(x) & 0xFFFF:04x}" for x in ids) + "\n")
    with open(os.path.join(HERE, "variants.json"), "w", encoding="utf-8") as f:
        json.dump(kinds, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
