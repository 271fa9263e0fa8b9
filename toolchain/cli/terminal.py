"""What the commands say: messages, warnings and errors on stderr, results on stdout.

Rich is loaded with the first that has markup or is more than a line of text: it takes as long to load as a text to be
scored.
"""

import functools
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import typer

from toolchain.look import opening

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ENDLESS = 1000  # columns
_EXCERPT = 240


@functools.cache
def console(stderr: bool) -> "Console":
    """stderr or stdout, as wide as its terminal. A file or a pipe has no width: there a table is as wide as what is in
    it.

    A character that the encoding of stdout lacks is written as its escape, as Python does on stderr.
    """
    from rich.console import Console

    stream = _stream(stderr)
    width = None if stream.isatty() or "COLUMNS" in os.environ else _ENDLESS
    return Console(stderr=stderr, highlight=False, soft_wrap=stderr, width=width)


def _stream(stderr: bool) -> TextIO:
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
        stream.reconfigure(errors="backslashreplace")
    return stream


def _print_line(message: "RenderableType", stderr: bool) -> None:
    """A message as `console` prints it without folding; Rich is not loaded for one that has no markup."""
    if isinstance(message, str) and "[" not in message:
        stream = _stream(stderr)
        stream.write(f"{message}\n")
        stream.flush()
    else:
        console(stderr).print(message, soft_wrap=True)


def _print_marked(mark: str, style: str, message: str) -> None:
    """`mark: message` on stderr, the mark in a style where a terminal shows one."""
    styled = _stream(stderr=True).isatty() or "FORCE_COLOR" in os.environ
    _print_line(f"{f'[{style}]{mark}:[/]' if styled else f'{mark}:'} {escape(message)}", stderr=True)


def show_cursor() -> None:
    """The cursor of the terminal, which a bar hides, and a process that is killed leaves hidden."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")
        sys.stderr.flush()


def be_quiet(wanted: bool) -> None:
    """Whether `say` is silent; `warn`, `fail` and `interrupted` speak all the same."""
    _Loudness.quiet = wanted


def is_quiet() -> bool:
    """Whether `say` is silent."""
    return _Loudness.quiet


class _Loudness:
    quiet = False


def say(message: "RenderableType") -> None:
    """What happens, on stderr, in Rich's markup."""
    if not _Loudness.quiet:
        _print_line(message, stderr=True)


def tell(line: str) -> None:
    """`say` for plain text."""
    say(escape(line))


def show(result: "RenderableType", *, soft_wrap: bool | None = None, markup: bool | None = None) -> None:
    """What was asked for, on stdout, in Rich's markup."""
    if soft_wrap and markup is None:
        _print_line(result, stderr=False)
    else:
        console(stderr=False).print(result, soft_wrap=soft_wrap, markup=markup)


def escape(text: str) -> str:
    """Text that a terminal shows and does not obey: no markup, and control characters as their escapes."""
    shown = "".join(character if character.isprintable() else _spelled(character) for character in text)
    if "[" not in shown:
        return shown
    from rich.markup import escape as escape_markup

    return escape_markup(shown)


def _spelled(character: str) -> str:
    return character if character == "\n" else character.encode("unicode_escape").decode()


def excerpt(text: str) -> str:
    """The start of a text for a terminal: no control characters, no line ends, at most `_EXCERPT` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _EXCERPT else f"{opening(line, _EXCERPT)} …"


def show_excerpt(text: str) -> None:
    """The start of a text, indented, on stdout."""
    from rich.padding import Padding
    from rich.text import Text

    show(Padding(Text(excerpt(text)), (0, 0, 0, 4), expand=False))


def warn(message: str) -> None:
    """Something that a person should look at; the command goes on."""
    _print_marked("warning", "yellow", message)


def fail(message: str) -> None:
    """The one line that says what is wrong, where, and what to do."""
    _print_marked("error", "bold red", message)


def interrupted(kept: str) -> None:
    """A run was stopped from outside; `kept` says what there is of it."""
    _print_marked("interrupted", "yellow", kept)


def print_json(value: Any) -> None:
    """On stdout; as ASCII where that could not hold every character."""
    ascii_only = sys.stdout.encoding.lower() != "utf-8"
    typer.echo(json.dumps(value, indent=2, ensure_ascii=ascii_only))
