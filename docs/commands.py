"""Write the command reference, `commands.md`, from what `--help` is made of, whatever the width of the terminal.

Usage: python docs/commands.py     (tests/docs/test_docs.py fails while the page is not what this writes)
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from typer.main import get_command

from toolchain.cli.app import app
from toolchain.cli.help import panels

PAGE = Path(__file__).with_name("commands.md")

INTRODUCTION = """\
# Commands

<!-- Written by `python docs/commands.py`: change the help in toolchain/cli/, not this page. -->

What a command gives goes to standard output, all that it says beside that to standard error. Exit status: 0 done;
1 a check failed (a verification, too many rejects, `--on-error fail`); 2 wrong use, or an input that cannot be used;
130 or 143 stopped by SIGINT or SIGTERM. An error is one line: what is wrong, where, and what to do.

Options of `toolchain` itself stand before the name of the command:
"""


def reference() -> str:
    """The page: every command with its usage, its help, its arguments and options, in the order of `--help`."""
    group: Any = get_command(app)
    context = group.context_class(group, info_name="toolchain")
    commands = [section(context, name, command) for name, command in group.commands.items() if not command.hidden]
    return "\n".join([INTRODUCTION, *tables(group, context), *commands])


def section(parent: Any, name: str, command: Any) -> str:
    """One command. (`Any`: Typer's classes come from a copy of Click that is not its interface.)"""
    context = command.context_class(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [f"{paragraph(text)}\n" for text in command.help.split("\n\n")]
    return "\n".join([f"## {name}\n", f"```\n{usage}\n```\n", *paragraphs, *tables(command, context)])


def tables(command: Any, context: Any) -> list[str]:
    """The arguments and options, a table for each panel of the help."""
    return [
        "\n".join([f"**{panel}**\n", "| option | meaning |", "|---|---|", *(row(*entry) for entry in entries), ""])
        for panel, entries in panels(command, context).items()
    ]


def row(names: str, meaning: str) -> str:
    """`-o, --out FILE`, `Output file. Default: out.` -> a row of a table."""
    return f"| <code>{cell(names)}</code> | {cell(meaning)} |"


def paragraph(text: str) -> str:
    """A paragraph as Markdown; examples become a block of code."""
    if example := re.fullmatch(r"Examples?:\s+(.*)", text, re.DOTALL):
        return f"```\n{example[1]}\n```"
    return escape(text, quote=False)


def cell(text: str) -> str:
    """What stands in a table. (A bar inside code is escaped by an entity alone, wherever Markdown is read.)"""
    return escape(" ".join(text.split()), quote=False).replace("|", "&#124;")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}")
