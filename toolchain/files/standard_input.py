"""Standard input as a text, read as files are: unpacked, and in the encoding that its mark or an option says."""

from contextlib import ExitStack

from toolchain.errors import UsageError
from toolchain.files.kind import STDIO, Kind
from toolchain.files.opening import open_input


def read_text(encoding: str | None = None, limit: int | None = None) -> str:
    """All of it. Raises `UsageError` where it is in another encoding, or longer than `limit` bytes."""
    with ExitStack() as stack:
        data = open_input(Kind.of(STDIO), stack, encoding).stream.read(-1 if limit is None else limit + 1)
    if limit is not None and len(data) > limit:
        raise UsageError(f"standard input: longer than {limit:,} bytes; send one review at a time")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input: byte {error.start + 1:,} is not {encoding or 'UTF-8'}; name what it is in: --encoding"
        ) from error
