"""Splits CSV text into records where quotes are not what a CSV reader expects, so that no quote swallows rows.

A double quote opens a quoted field at the field's start, if one closes it right before a delimiter or a line's end.
Any other is a character like others.
"""

import re
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from udfs.core.arrays import Ints

#: A quoted field of several lines is looked for within this many bytes.
MAX_RECORD = 8 << 20

_BODY = {
    False: re.compile(rb'[^"]*+(?:""[^"]*+)*+'),
    True: re.compile(rb'[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+', re.DOTALL),
}
_ESCAPED = re.compile(rb'\\(["\\])')


@dataclass
class Records:
    """Records of a block, each well-formed. The last bytes of a block may belong to the next one."""

    csv: bytes  #: as a CSV reader expects it
    line: Ints  #: int64 [n], the line of each record in the block, from 0
    start: Ints  #: int64 [n], where each begins in the block
    end_of: dict[int, int]  #: where a record of several lines ends, by its start
    refused: list[tuple[int, int, int, str]]  #: lines that are none: the first and last line, its start, the reason
    used: int  #: bytes of the block
    lines: int  #: line ends in them


@dataclass
class Splitter:
    """Splits the blocks of one file."""

    delimiter: bytes
    columns: int
    quotes: str | None = None
    escapes: bool | None = None  #: whether a backslash escapes quotes; None before the first block
    _fast: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._compile()

    def _compile(self) -> None:
        d = re.escape(self.delimiter)
        inside = rb'[^"\\\r\n]'
        escape = rb'""' if self.escapes else rb'(?:""|\\(?!"))'
        quoted = rb'"' + inside + rb"*+(?:" + escape + inside + rb'*+)*+"(?=' + d + rb"|\r?\n)"
        value = rb'(?:[^"\r\n' + d + rb"][^\r\n" + d + rb"]*+)?+"
        one = value if self.quotes == "none" else rb"(?:" + quoted + rb"|" + value + rb")"
        row = one + rb"(?:" + d + one + rb")*+\r?\n"
        self._fast = re.compile(rb'(?:[^"\r\n]*+\r?\n|' + row + rb")*+")

    def split(self, block: bytes, *, last: bool) -> Records:
        """Return the records of a block, which begins at a record and, but for the last, ends with a line's end."""
        has_bare_cr = b"\r" in block and block.count(b"\r") != block.count(b"\r\n")
        newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        if not has_bare_cr and (b'"' not in block or self._is_plain(block, newlines)):
            line, start, ends = _lines(block, 0, len(block), 0, newlines)
            return Records(block, line, start, {}, [], len(block), ends)
        if self.escapes is None:
            self._look_for_escapes(block)
        text = block if block.endswith(b"\n") else block + b"\n"
        pieces: list[bytes] = []
        lines: list[Ints] = []
        starts: list[Ints] = []
        found = Records(b"", _NONE, _NONE, {}, [], 0, 0)
        at, lines_before = 0, 0
        while at < len(text):
            match = self._fast.match(text, at)
            end = match.end() if match else at
            if end > at:
                of_line, of_start, ends = _lines(text, at, end, lines_before, newlines)
                pieces.append(text[at:end])
                lines.append(of_line)
                starts.append(of_start)
                lines_before += ends
                at = end
                continue
            fields, end, reason = self._record(text, at, last=last)
            if end == 0:
                break
            count = text.count(b"\n", at, end)
            if reason:
                found.refused.append((lines_before, lines_before + count - 1, at, reason))
            else:
                pieces.append(self.delimiter.join(map(_quoted, fields)) + b"\n")
                lines.append(np.array([lines_before]))
                starts.append(np.array([at]))
            found.end_of[at] = end
            lines_before += count
            at = end
        found.csv = b"".join(pieces)
        found.line, found.start = np.concatenate([_NONE, *lines]), np.concatenate([_NONE, *starts])
        found.used, found.lines = min(at, len(block)), lines_before
        return found

    def _is_plain(self, block: bytes, newlines: Ints) -> bool:
        """Return whether all quotes in a block open or close a field of one line without a quote in it."""
        found = np.frombuffer(block, np.uint8)
        quotes = np.flatnonzero(found == ord('"'))
        if self.escapes or self.quotes == "none" or len(quotes) % 2 or quotes[-1] == len(block) - 1:
            return False
        opens, closes = quotes[::2], quotes[1::2]
        before, after = found[np.maximum(opens - 1, 0)], found[closes + 1]
        marks = np.frombuffer(self.delimiter + b"\n\r", np.uint8)
        return bool(
            (np.isin(before, marks[:2]) | (opens == 0)).all()
            and np.isin(after, marks).all()
            and (np.searchsorted(newlines, opens) == np.searchsorted(newlines, closes)).all()
            and (found[closes - 1] != ord("\\")).all()
        )

    def _record(self, text: bytes, at: int, *, last: bool) -> tuple[list[bytes], int, str]:
        """Return a record's values, where it ends (0: in the next block), and why it is none."""
        fields, end, lone = self._fields(text, at, escapes=bool(self.escapes), several=False)
        fits = len(fields) == self.columns
        if not self.escapes and b'\\"' in text[at:end] and (lone or not fits):
            escaped, escaped_end, escaped_lone = self._fields(text, at, escapes=True, several=False)
            if not escaped_lone and len(escaped) == self.columns:
                return escaped, escaped_end, ""
        if not lone or self.quotes == "none":
            return fields, end, ""
        long, long_end, open_end = self._fields(text, at, escapes=bool(self.escapes), several=True)
        if open_end and not last and len(text) - at < MAX_RECORD:
            return [], 0, ""
        if len(long) == self.columns and not open_end and text.count(b"\n", at, long_end) > 1:
            if self.quotes == "always" or not self._is_rows(text, end, long_end, fits=fits):
                return long, long_end, ""
            return (
                [],
                long_end,
                "a quote opens here and one closes lines below: one field, or characters of several rows",
            )
        return fields, end, ""

    def _is_rows(self, text: bytes, end: int, long_end: int, *, fits: bool) -> bool:
        """Return whether the lines that a quoted field would span are rows of their own."""
        for line in text[end:long_end].split(b"\n")[:-1]:
            end += len(line) + 1
            if line.count(self.delimiter) >= self.columns - 1 > 0 and (fits or end < long_end):
                fields, _, _ = self._fields(line + b"\n", 0, escapes=bool(self.escapes), several=False)
                if len(fields) == self.columns:
                    return True
        return False

    def _fields(self, text: bytes, at: int, *, escapes: bool, several: bool) -> tuple[list[bytes], int, bool]:
        """Return the values of the record at a place, its end, and whether a field begins with a quote without another.

        several: a field may have several lines; the quote is then one that nothing closes in the text.
        """
        fields: list[bytes] = []
        lone = False
        while True:
            closed = -1
            if text[at : at + 1] == b'"' and self.quotes != "none":
                body = _BODY[escapes].match(text, at + 1)
                closed = body.end() if body else -1
                after = text[closed + 1 : closed + 3]
                value = text[at + 1 : closed]
                ends = after[:1] in (self.delimiter, b"\n") or after == b"\r\n"
                if closed == len(text):
                    lone, closed = True, -1
                elif not ends or (not several and b"\n" in value):
                    lone, closed = lone or not several, -1
                else:
                    value = value.replace(b'""', b'"')
                    fields.append(_ESCAPED.sub(rb"\1", value) if escapes else value)
                    at = closed + 1
            if closed < 0:
                line_end = text.index(b"\n", at)
                stop = text.find(self.delimiter, at, line_end)
                stop = line_end - (text[line_end - 1 : line_end] == b"\r" and line_end > at) if stop < 0 else stop
                fields.append(text[at:stop])
                at = stop
            if text[at : at + 1] != self.delimiter:
                return fields, text.index(b"\n", at) + 1, lone
            at += 1

    def _look_for_escapes(self, block: bytes) -> None:
        """Settle whether a backslash escapes quotes: rows of the first block need it, and none is against it."""
        needed = against = False
        for match in islice(re.finditer(rb'\\"', block), 1000):
            begin, end = block.rfind(b"\n", 0, match.start()) + 1, block.find(b"\n", match.start())
            row = block[begin : end if end >= 0 else None] + b"\n"
            plain, _, lone = self._fields(row, 0, escapes=False, several=False)
            escaped, _, still = self._fields(row, 0, escapes=True, several=False)
            fits, fits_escaped = not lone and len(plain) == self.columns, not still and len(escaped) == self.columns
            needed, against = needed or (fits_escaped and not fits), against or (fits and not fits_escaped)
        self.escapes = needed and not against
        self._compile()


_NONE = np.empty(0, np.int64)


def _lines(text: bytes, begin: int, end: int, first: int, newlines: Ints) -> tuple[Ints, Ints, int]:
    """Return line and start of each line of text[begin:end] that is not blank, and the number of all lines.

    first: the number of the first line. newlines: int64 [m], where lines end in the text, but perhaps for the last.
    """
    ends = newlines[np.searchsorted(newlines, begin) : np.searchsorted(newlines, end)]
    if end > begin and (not len(ends) or ends[-1] != end - 1):
        ends = np.append(ends, end)
    start = np.concatenate(([begin], ends[:-1] + 1))[: len(ends)]
    length = ends - start
    short = np.flatnonzero(length <= 1).tolist()
    blank = [nth for nth in short if text[start[nth] : ends[nth]] in (b"", b"\r")]
    if not blank:
        return np.arange(first, first + len(ends)), start, len(ends)
    return np.delete(np.arange(len(ends)), blank) + first, np.delete(start, blank), len(ends)


def _quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b'"', b'""') + b'"' if value else value


def text_at(block: bytes, records: Records, start: int) -> str:
    """Return the text of the record that begins at a place of its block."""
    end = records.end_of.get(start) or block.find(b"\n", start)
    return block[start : end if end >= 0 else None].decode(errors="backslashreplace").rstrip("\r\n")
