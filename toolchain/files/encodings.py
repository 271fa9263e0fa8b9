"""Which encoding a file without a mark is in: UTF-8, or the likely other one, for a person to name."""

from toolchain.errors import UsageError

_FEW, _FEW_OF = 3, 10  # one bad line of ten, or two of twenty, say nothing of the encoding
_SAMPLE = 1 << 16
_CONTROLS = frozenset(range(1, 9)) | frozenset(range(14, 32)) - {26, 27}
_BINARY = 4  # different control characters, of which a text has one or two, as separators
_ENOUGH = 32


def refuse_other_text(head: bytes, name: str) -> None:
    """Raise `UsageError` where the beginning of a file shows that it is not UTF-8, and name the likely encoding.

    One or two lines that are not UTF-8, or some beside at least as many that are UTF-8 and not ASCII, are damage, and
    cost themselves.
    """
    if head.isascii():
        return
    lines = head.split(b"\n")[:-1] or [head]
    coded = [line for line in lines if not line.isascii()]
    other = [line for line in coded if not _is_utf8(line)]
    few = len(other) < _FEW and len(other) * _FEW_OF <= len(lines)
    if few or len(other) * 2 <= len(coded):
        return
    place = next(number for number, line in enumerate(lines, 1) if not _is_utf8(line))
    if len(_CONTROLS.intersection(head)) >= _BINARY:
        raise UsageError(
            f"{name}: holds no text, its bytes are those of another kind of file; expected CSV, JSON, Excel …"
        )
    likely = _likely(b"\n".join([*other, b""])[:_SAMPLE])
    raise UsageError(f"{name}: line {place} is not UTF-8; name the encoding, probably {likely}: --encoding {likely}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _likely(sample: bytes) -> str:
    """The encoding by charset-normalizer, where it is installed and has enough to go by; else what most files are in
    that are not UTF-8."""
    if sum(byte > 127 for byte in sample) < _ENOUGH:
        return "cp1252"
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError:
        return "cp1252"
    best = from_bytes(sample).best()
    return "cp1252" if best is None or best.encoding in _LIKE_CP1252 else best.encoding


# What charset-normalizer says of short texts in Western European languages.
_LIKE_CP1252 = {"latin_1", "cp1250", "cp1252", "cp1254", "cp1257", "cp1258", "iso8859_15", "mac_iceland", "mac_roman"}
