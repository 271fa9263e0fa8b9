"""Rows that go on as windows finish, to standard output, a FIFO or a device: nothing can be taken back, or resumed."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from toolchain.errors import UsageError
from toolchain.files.compression import check_packing, compressing
from toolchain.files.kind import Kind
from toolchain.files.outputs import open_stream, real
from toolchain.scoring.journal import WindowEntry


class Stream:
    """A sink like `toolchain.scoring.journal.Parts` that keeps nothing but the rejects."""

    def __init__(self, target: Kind, header: bytes, rejects: Path) -> None:
        """Raises `UsageError` where the target cannot be opened or written."""
        self.entries: list[WindowEntry] = []
        self._name = "standard output" if target.place == "standard stream" else target.name
        self._rejects = real(rejects)
        self._reject_file: BinaryIO | None = None
        self._stack = ExitStack()
        try:
            self._out = self._open(target)
        except OSError as error:
            raise UsageError(f"{target.name}: {error.strerror}") from error
        try:
            self._write(header)
        except BaseException:
            self._stack.close()
            raise

    def commit(self, entry: WindowEntry, rows: bytes, rejects: bytes) -> None:
        """Write a window's rows and rejects."""
        self.entries.append(entry)
        self._write(rows)
        if rejects:
            if self._reject_file is None:
                self._reject_file = self._stack.enter_context(self._rejects.open("wb"))
            self._reject_file.write(rejects)

    def publish(self, header: bytes, rejects: Path, record: Mapping[str, Any]) -> None:
        """All is written. Rejects of an earlier run are not this one's."""
        if self._reject_file is None:
            self._rejects.unlink(missing_ok=True)

    def discard(self) -> None:
        """What is written stays."""

    def close(self) -> None:
        """End what was opened."""
        self._stack.close()

    def _open(self, target: Kind) -> BinaryIO:
        if target.place == "standard stream":
            return sys.stdout.buffer
        if target.packing:
            check_packing(target.packing, target.name)
            return self._stack.enter_context(compressing(Path(target.name), target.packing))
        return self._stack.enter_context(open_stream(target.name))

    def _write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._out.write(rest) :]
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._out is sys.stdout.buffer:  # or the exit tries the same bytes again
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise UsageError(f"{self._name}: {error.strerror}") from error
