"""Excel workbooks as records: a sheet's rows as the rows of a CSV file. openpyxl is loaded on first use."""

import csv
import datetime
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput
from toolchain.files.lines import KEPT_OF_OVERLONG
from toolchain.files.records import MAX_ROW_BYTES, Reader, Record

_SAMPLE_ROWS = 200
_MAX_ROWS = 1 << 20


class ExcelReader(Reader):
    """The rows of a sheet, each with the bytes that a CSV file would have for it. A row's position is its number.

    Cells are text, as they were typed; numbers and dates are as Python has them; a formula is its last value.
    """

    format = "csv"
    written_as = "CSV"

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        max_row_bytes: int = MAX_ROW_BYTES,
        sheet: str | None = None,
        header: bool = True,
        skip_lines: int = 0,
    ) -> None:
        """Raises `UsageError` where it is no whole workbook, or openpyxl is not there. `stream` must be seekable."""
        super().__init__(stream, name, max_row_bytes)
        try:
            import openpyxl
        except ModuleNotFoundError:
            raise UsageError(
                f"{name}: an Excel workbook needs openpyxl; install it: pip install 'toolchain[files]', or save the "
                "sheet as CSV (UTF-8)"
            ) from None
        try:
            self._book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            names = [each.title for each in self._book.worksheets]
        except Exception as error:  # what a damaged part of it makes openpyxl raise has no common class
            raise UsageError(
                f"{name}: cannot be read as an Excel workbook ({_one_line(error)}); save the sheet as CSV (UTF-8)"
            ) from error
        if (sheet is not None and sheet not in names) or not names:
            raise UsageError(f"{name}: no sheet {sheet or ''!r}; its sheets: {', '.join(names) or 'none'}")
        self._sheet = self._book[sheet] if sheet is not None else self._book.worksheets[0]
        self._skipped = skip_lines
        self.has_header = header
        self._next = self._rows()
        self._sheet.reset_dimensions()  # what the file says of its size may be wrong
        first = next(self._rows(), None)
        if first is None:
            raise UsageError(f"{name}: the sheet {self._sheet.title!r} is empty; name another: --sheet NAME")
        number, cells = first
        while header and cells and not cells[-1]:
            cells.pop()
        self._width = len(cells)
        if header:
            self.columns = tuple(cells)
            self.header = _line(cells)
            self.start = (number, number + 1)
        else:
            self.columns = tuple(str(place) for place in range(1, self._width + 1))
            self.header = b""
            self.start = (number - 1, number)
        self._offset, self._line = self.start
        self._sample = [cells for _, cells in zip(range(_SAMPLE_ROWS), self._from(self._offset), strict=False)]
        self.found = (f"the sheet {self._sheet.title!r} of {len(names)}",)

    def describe(self) -> Mapping[str, Any]:
        """Which rows of which sheet."""
        return {"sheet": self._sheet.title, "header": self.has_header, "skip_lines": self._skipped}

    def sample(self, column: str) -> Sequence[Any]:
        """The column's cells in the first rows."""
        place = self.columns.index(column)
        return [cells[place] for _, cells in self._sample if len(cells) > place]

    def resume(self, offset: int, line: int) -> None:
        """Go on behind the row with the number `offset`."""
        self._offset, self._line = offset, line

    def __iter__(self) -> Iterator[Record]:
        try:
            for number, cells in self._from(self._offset):
                yield self._row(number, cells)
        except BrokenInput:
            raise
        except Exception as error:
            raise BrokenInput(f"{self.name}: damaged after row {self._offset:,} ({_one_line(error)})") from error

    def _row(self, number: int, cells: list[str]) -> Record:
        self._offset, self._line = number, number + 1
        error = None
        if any(cells[self._width :]):
            error = f"{len(cells)} columns, expected {self._width}"
        cells = (cells + [""] * self._width)[: self._width] if error is None else cells
        raw = _line(cells)
        if len(raw) > self.max_row_bytes:
            error, raw = self._too_long(), raw[:KEPT_OF_OVERLONG]
        fields = {} if error else dict(zip(reversed(self.columns), reversed(cells), strict=True))
        return Record(number, raw, fields, error, self._offset, self._line)

    def _from(self, offset: int) -> Iterator[tuple[int, list[str]]]:
        return ((number, cells) for number, cells in self._rows() if number > offset)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that hold anything, with their numbers from 1."""
        for number, row in enumerate(self._sheet.iter_rows(values_only=True), 1):
            if number > _MAX_ROWS:
                raise BrokenInput(f"{self.name}: has rows beyond {_MAX_ROWS:,}, which a sheet cannot have")
            cells = [_text(value) for value in row]
            if number > self._skipped and any(cells):
                yield number, cells


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return str(value)


def _line(cells: Sequence[str]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogatepass")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
