"""Rows that are no events: counted by reason, and kept in a file of their own."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from udfs.core.errors import ShopstreamError


class Rejected:
    """Takes the rows of a file that cannot be read.

    `rejected` counts them by reason, and `left_out` those that are known to be no events, such as returns. `read` is
    the number of rows that became events, `events` that of the events, which may be more: an order has several items.
    `noted` counts what is read and worth a look.
    """

    def __init__(
        self, file: Path | None = None, *, strict: bool = False, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """file: where the rows go, made for the first; strict: raise at the first. tell: takes warnings at once."""
        self.file, self.strict, self.tell = file, strict, tell
        self.rejected: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.read = self.events = 0
        self.examples: dict[str, str] = {}  #: what was said of the first row of each reason
        self._out: BinaryIO | None = None

    def reject(self, label: str, line: int, reason: str, said: str, raw: Callable[[], str]) -> None:
        """Count and keep a row; ShopstreamError if that is not wanted, or its file cannot be written."""
        if self.strict:
            raise ShopstreamError(f"{label}: line {line:,}: {said}")
        self.rejected[reason] += 1
        self.examples.setdefault(reason, f"line {line:,}: {said}")
        if self.file is None:
            return
        try:
            if self._out is None:
                self._out = self.file.open("wb")
            row = {"file": label, "line": line, "reason": reason, "said": said, "row": raw()}
            self._out.write(msgspec.json.encode(row) + b"\n")
        except OSError as error:
            where = f"rows that cannot be read should go to {self.file}, which cannot be written: {error.strerror}"
            raise ShopstreamError(f"{where}; name another file with --rejected FILE") from error

    def close(self) -> None:
        """Close the file of rejected rows."""
        if self._out is not None:
            self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def lines(self) -> list[str]:
        """Return what there is to say, one line each: rejected rows, rows left out, and what was noted."""
        said = []
        if self.rejected:
            kept = f"; they are in {self.file}" if self.file else ""
            said.append(f"rejected {self.rejected.total():,} rows: {_counts(self.rejected)}{kept}")
        if self.left_out:
            said.append(f"left out {self.left_out.total():,} rows: {_counts(self.left_out)}")
        return said + [f"note: {count:,} {what}" for what, count in self.noted.items()]

    def nothing_read(self, path: Path) -> ShopstreamError:
        """Return the error for a file of which every row was rejected."""
        return ShopstreamError(f"{path}: no row can be read: {'; '.join([*self.examples.values()][:1] + self.lines())}")

    def counts(self) -> dict[str, Any]:
        """Return the counts for --json."""
        return {
            "rejected": dict(self.rejected.most_common()),
            "left_out": dict(self.left_out.most_common()),
            "noted": dict(self.noted),
            "rejected_file": str(self.file) if self.file and self.rejected else None,
        }


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in counter.most_common())
