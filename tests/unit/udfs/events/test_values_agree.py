"""A value means the same in a file and in a record on Kafka, wherever both read it."""

from collections.abc import Callable

import pytest

from udfs.events import record_values, values

READ: dict[str, tuple[Callable[..., object], Callable[..., object], list[object]]] = {
    "id": (
        record_values.read_id,
        values.identifier,
        ["17850", "17850.0", 17850.0, 85123, "85123A", "1.5", 7982301102254.0, "u-1.0", "0", "10"],
    ),
    "number": (record_values.read_number, values.amount, ["2.5", 2, " 3 ", "NULL", "1e3", ".5", "nan", r"\N", 7.25]),
    "whole": (record_values.read_whole, values.whole, ["2", 2.0, "2.0", 3, "NaN", "4.00"]),
    "time": (
        record_values.read_time,
        values.time_ms,
        [
            1541037460,
            1541037460123,
            1611817838123456,
            1767225600000000000,
            1541037460.5,
            "1541037460",
            "2026-01-01 00:00:00+00",
            "2026-01-01T05:30:00.25+05:30",
            "2019-10-01 00:00:00 UTC",
            "2019-10-01T00:00:00Z",
            "2026-01-01 00:00:00 GMT",
            "2026-01-01 00:00:00-0330",
        ],
    ),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (*_, found) in READ.items() for value in found])
def test_files_and_records_read_alike(name: str, value: object):
    of_record, of_file, _ = READ[name]
    assert of_record(value) == of_file(value)
