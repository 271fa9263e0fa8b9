"""Plain text files as records: a review a line, written as the rows of a CSV file with one column."""

from collections.abc import Iterator
from typing import BinaryIO

from toolchain.files.lines import KEPT_OF_OVERLONG
from toolchain.files.records import BOM, MAX_ROW_BYTES, Reader, Record, utf8_error


class TextReader(Reader):
    """A file without columns: every line that is not blank is a text, whatever marks it holds."""

    format = "csv"
    columns = ("text",)
    header = b"text\n"
    found = ("a review a line",)
    written_as = "CSV"

    def __init__(self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES) -> None:
        super().__init__(stream, name, max_row_bytes)

    def resume(self, offset: int, line: int) -> None:
        """Go on at a line."""
        self._stream.seek(offset)
        self._offset, self._line = offset, line

    def __iter__(self) -> Iterator[Record]:
        while line := self._read_line():
            at_start = self._offset == 0
            record = self._record([line], {}, None)
            data = record.raw.removeprefix(BOM) if at_start else record.raw
            text = data.rstrip(b"\r\n")
            error = self._too_long() if line.size != len(line.data) else utf8_error(text)
            if error is None and not text.strip():
                continue
            raw = data[:KEPT_OF_OVERLONG] if error else b'"' + text.replace(b'"', b'""') + b'"\n'
            fields = {} if error else {"text": text.decode()}
            yield Record(record.line, raw, fields, error, record.end_offset, record.end_line)
