"""`--help` as plain text, a section a panel, and wrong use in one line: neither loads more than Typer itself."""

import functools
import inspect
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from toolchain.cli.terminal import fail

_WIDEST, _NAMES = 110, 30  # columns of the help, and of the names of options in it
_WrongUse: Any = typer.BadParameter.__base__  # Click's UsageError: Typer has a copy of Click without a public name


def paragraphs(docstring: str) -> str:
    """A docstring as help: a paragraph is as wide as the terminal; examples stand a line each."""
    parts = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if text.startswith("Example") else text.replace("\n", " ") for text in parts)


class _PlainHelp:
    """What a command and the group of commands share: help without boxes, as wide as the terminal."""

    help: str | None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As wide as the terminal, and no wider than one reads with ease."""
        formatter.width = min(_WIDEST, shutil.get_terminal_size().columns)
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The paragraphs, and the examples as lines that can be copied."""
        for text in (self.help or "").split("\n\n"):
            formatter.write_paragraph()
            title, colon, examples = text.partition(":")
            if colon and title in ("Example", "Examples"):
                formatter.write(f"{title}:\n" + "".join(f"  {line.strip()}\n" for line in examples.strip().split("\n")))
            else:
                formatter.write_text(text)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, then a section a panel of options, in the order of the signature."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            record = parameter.get_help_record(ctx)  # None where it is hidden
            if record:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = parameter.rich_help_panel
                panels.setdefault(panel if isinstance(panel, str) else usual, []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=min(_NAMES, formatter.width // 3))


class Command(_PlainHelp, TyperCommand):
    """A command whose help is plain text."""


class Group(_PlainHelp, TyperGroup):
    """The commands by name, each with the first sentence of its help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options, then the commands."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (self.commands[name].help or "").partition("\n\n")[0]) for name in self.list_commands(ctx)]
            )

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **settings: Any
    ) -> Any:
        """Run a command; wrong use is one line on stderr, and exit status 2."""
        run = functools.partial(super().main, args, standalone_mode=False, **settings)
        if not standalone_mode:
            return run()
        try:
            status = run()
        except _WrongUse as error:
            message = error.format_message()
            if message.startswith("Usage:"):  # of `toolchain` alone it is the help
                typer.echo(message, err=True)
            else:
                where = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
                fail(message.rstrip(".") + where)
            sys.exit(error.exit_code)
        except typer.Abort:
            fail("aborted")
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)
