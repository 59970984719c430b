"""`make fuzz`: whatever bytes a fuzzer finds new ways through the parsers with, there is a row or a reason.

libFuzzer by Atheris, guided by the lines that an input reaches. It ends when all runs are done, or at the first input
that breaks what tests/unreadable.py asks for, which it writes to a file and tells, with exit code 77.
"""

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

try:
    import atheris
except ImportError:
    sys.exit("error: Atheris, which this needs, has packages for Linux on x86-64 alone")

with atheris.instrument_imports(include=["udfs"]):
    from hostile import FIELDS, MUTATIONS, NUMBERS, STRANGE
    from unreadable import ITEM_VALUE, check_item, check_rows, good

#: Bytes of an input, at most.
LONGEST = 8192


def check(data: bytes) -> None:
    """A record of `clickstream`, and one of `catalog` whose key is its first line."""
    check_rows([data])
    key, _, value = data.partition(b"\n")
    check_item(key, value)


def main() -> None:
    """Begin with good and hostile events and items, and change them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs that are tried (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6), help="drawn and printed by default")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    seeds = [value for _, value, _ in good(20)] + [b"a\n" + ITEM_VALUE]
    seeds += [mutate(chance, value) for mutate in MUTATIONS.values() for _, value, _ in good(5)]
    words = [f'"{field}":' for field in FIELDS] + [*NUMBERS, *STRANGE]
    with TemporaryDirectory() as folder:
        corpus, words_file = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()[:64]) for word in words)
        words_file.write_text("".join(f'"{word}"\n' for word in quoted))
        options = [f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={LONGEST}", f"-dict={words_file}"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
