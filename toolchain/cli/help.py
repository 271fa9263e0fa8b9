"""`--help` as plain text, a section a panel, and wrong use in one line: neither loads more than Typer itself."""

import functools
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from toolchain.cli.terminal import fail
from toolchain.errors import quoted

_WIDEST, _NAMES = 110, 30  # columns of the help, and of the names of options in it
_ALIKE = 0.7  # so near a name is one misspelt: --texct-column, and not --unlabelled for --bundle
_PLAINLY = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid integer": "a whole number",
    "a valid number": "a number",
}
_WrongUse: Any = typer.BadParameter.__base__  # Click's UsageError: Typer has a copy of Click without a public name


def paragraphs(docstring: str) -> str:
    """A docstring as help: a paragraph is as wide as the terminal; examples stand a line each."""
    parts = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if text.startswith("Example") else text.replace("\n", " ") for text in parts)


class _PlainHelp:
    """What a command and the group of commands share: help without boxes, as wide as the terminal, and values that are
    converted only where they have to be."""

    help: str | None

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, that of `--help` among them."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            convert = getattr(parameter, "get_runtime_param", None)  # of Typer since it converts by pydantic
            if convert and not isinstance(convert, functools.partial):
                parameter.get_runtime_param = functools.partial(_AsItIs, convert)
        return parameters

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
        """The arguments, then a section a panel of options."""
        for panel, entries in panels(self, ctx).items():
            with formatter.section(panel):
                formatter.write_dl(entries, col_max=min(_NAMES, formatter.width // 3))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`[OPTIONS] FILE [TEXT]...`: what may be left out stands in brackets."""
        arguments = [each for each in self.params if each.param_type_name == "argument"]  # type: ignore[attr-defined]
        names = [_value(each) if each.required else f"[{_value(each)}]" for each in arguments]
        return ["[OPTIONS]", *(name + "..." * (each.nargs < 0) for name, each in zip(names, arguments, strict=True))]


def panels(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """The help of a command: a panel -> what stands in it, each an entry's names and meaning.

    Where the command says what is shown first (`toolchain.cli.options.shown_first`), that follows the arguments, and
    the other panels follow as `More: …`.
    """
    first: Sequence[str] = getattr(command.callback, "shown_first", ())
    parameters = command.get_params(context)
    parameters.sort(key=lambda each: first.index(each.name) if each.name in first else len(first))
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in sorted(parameters, key=lambda each: each.param_type_name != "argument"):
        if entry := _entry(parameter, context):
            found.setdefault(_panel(parameter, first), []).append(entry)
    return found


def _panel(parameter: Any, first: Sequence[str]) -> str:
    panel = parameter.rich_help_panel
    if parameter.param_type_name == "argument":
        return "Arguments"
    if not isinstance(panel, str) or parameter.name in first:
        return "Options"
    return f"More: {panel.lower()}" if first else panel


def _entry(parameter: Any, context: Any) -> tuple[str, str] | None:
    """`--out FILE`, and what it means; None where it is hidden.

    Typer shows a type and, in brackets, facts (`[default: 5; x>=0]`). Here a value has a name, and the default is a
    sentence.
    """
    record = parameter.get_help_record(context)
    if record is None:
        return None
    meaning, _, facts = record[1].partition("  [")
    sentences = [meaning]
    for fact in facts.removesuffix("]").split("; "):
        name, _, value = fact.partition(": ")
        if name == "default":
            sentences.append(f"Default: {value}.")
        elif name == "required" and parameter.param_type_name == "option":
            sentences.append("Required.")
    if parameter.param_type_name == "argument":
        return _value(parameter), " ".join(sentences)
    names = ", ".join(sorted(parameter.opts, key=len)) + "".join(f" / {other}" for other in parameter.secondary_opts)
    return names if parameter.is_flag else f"{names} {_value(parameter, record[0])}", " ".join(sentences)


def _value(parameter: Any, shown: str = "") -> str:
    """What stands for the value in the help: the name it was given, its choices, N for a number; else the option's last
    word."""
    if parameter.metavar:
        return str(parameter.metavar)
    if choices := re.search(r"[<\[]([\w-]+(?:\|[\w-]+)+)[>\]]", shown):
        return choices[1]
    if re.search(r"<(int|float)|INTEGER|FLOAT", shown):
        return "N"
    return str(parameter.name).rpartition("_")[2].upper()


class Command(_PlainHelp, TyperCommand):
    """A command whose help is plain text, and that says where a value without its option belongs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The values of the options. Raises `_WrongUse` on a value too many, with what to type where that is plain."""
        try:
            values, left, given = self.make_parser(ctx).parse_args(list(args))
        except _WrongUse as error:
            error.ctx = ctx
            raise
        each: Any
        for each in given:
            if given.count(each) > 1 and each.param_type_name == "option" and not (each.multiple or each.is_flag):
                ctx.fail(f"{max(each.opts, key=len)} takes one value, and stands there {given.count(each)} times")
        if left and not ctx.resilient_parsing and not values.get("help"):
            option = self._subject()
            if option is None or values.get(option.name):
                takes = " ".join(self.collect_usage_pieces(ctx)[1:]) or "only options"
                ctx.fail(f"{quoted(left[0])!r} is one too many; {self.name} takes {takes}")
            raise _WrongUse(
                f"{quoted(left[0])!r} needs its option: {ctx.command_path} {option.opts[0]} {quoted(left[0])}"
            )
        arguments: list[str] = super().parse_args(ctx, args)
        return arguments

    def _subject(self) -> Any:
        """The option that names what the command works on: the first in its help, unless that is its output."""
        first = getattr(self.callback, "shown_first", ("out",))[0]
        return next((each for each in self.params if each.name == first != "out"), None)


class _AsItIs:
    """What converts the values of a parameter and leaves alone those that are right as they are: nothing, a default, a
    string where a string is wanted.

    Typer has pydantic convert, which takes longer to load than a text to be scored.
    """

    def __init__(self, convert: Callable[[], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command gets it."""
        several, wanted = param.multiple or param.nargs == -1, param.type_descriptor.annotation
        if value is None:
            return () if several else None
        if wanted is str and isinstance(value, str):
            return value
        if wanted == list[str] and not isinstance(value, str) and all(isinstance(each, str) for each in value):
            return list(value)
        if value == param.default and (wanted is type(value) or value in get_args(wanted)):
            return value
        if value == param.default and wanted is float and type(value) is int:
            return float(value)
        return self._convert().coerce(value, param=param, ctx=ctx)


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
                said = _wrong_use(error, message).rstrip(".")
                see = "" if error.ctx is None else f"see {error.ctx.command_path} --help"
                fail(f"{said} S{see[1:]}" if said.endswith("?") else f"{said}; {see}".removesuffix("; "))
            sys.exit(error.exit_code)
        except typer.Abort:
            fail("aborted")
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)


def _nearest(name: str, options: Sequence[str] | None) -> str | None:
    """The option that `name` was probably meant to be, if any."""
    import difflib

    return next(iter(difflib.get_close_matches(name, options or (), 1, _ALIKE)), None)


def _wrong_use(error: Any, message: str) -> str:
    """An error that Click found, in the way of our own: first what it is about."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        if "requires an argument" in message:
            return f"{error.option_name} needs a value"
        said = message.partition(" (Possible options: ")[0]
        arguments = error.ctx.command.params if hasattr(error, "possibilities") else ()
        for each in arguments:
            if each.param_type_name == "argument" and each.name == error.option_name.lstrip("-"):
                return f"{error.option_name}: write {_value(each)} without it"
        near = _nearest(error.option_name, error.possibilities) if hasattr(error, "possibilities") else None
        return said[:1].lower() + said[1:] + (f". Did you mean {near}?" if near else "")
    option = parameter.param_type_name == "option"
    name = max(parameter.opts, key=len) if option else _value(parameter)
    if not error.message:
        return f"{name} is missing: {parameter.help[:1].lower()}{parameter.help[1:]}"
    found = error.message.removeprefix("Value error, ").replace("Input should be", "expected")
    for said, plain in _PLAINLY.items():
        found = found.replace(said, plain)
    return f"{name}: {found.partition(', unable')[0]}"
