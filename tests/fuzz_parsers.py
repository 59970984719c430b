"""Coverage-guided fuzzing of the parsers of events and items, by hand: atheris is no part of the environment.

    PYTHONPATH=. .uv/bin/uv run --no-project --with-requirements requirements/runtime.lock --with atheris \\
        python tests/fuzz_parsers.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports():
    from udfs.catalog import parse_item
    from udfs.events import EVENT_COLUMNS, parse_event


def one(data: bytes) -> None:
    """Any bytes: a row of all columns with or without an error, an item or one of the errors that make dead letters."""
    row = parse_event(data)
    if len(row) != len(EVENT_COLUMNS) or (row[0] is None) != (row[2] is not None):
        raise AssertionError(row)
    key, _, value = data.partition(b"\n")
    try:
        parse_item(key, value)
    except (ValueError, RecursionError):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
