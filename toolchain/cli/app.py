"""The command line: every command, and what becomes of an error. Data goes to stdout, everything else to stderr."""

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer

from export.errors import ExportError
from toolchain import __version__
from toolchain.cli.help import Command, Group, paragraphs
from toolchain.cli.terminal import be_quiet, fail, interrupted, show
from toolchain.errors import CheckFailed, UsageError

COMMANDS = (
    "train",
    "evaluate",
    "import",
    "export",
    "verify",
    "score",
    "predict",
    "explain",
    "serve",
    "report",
    "compare",
    "inspect",
    "bench",
    "doctor",
)

_EXTRAS = dict.fromkeys(("torch", "torchtext", "onnx", "matplotlib", "gensim", "sklearn"), "train") | {
    "tensorboard": "tensorboard",
    **dict.fromkeys(("jinja2", "markupsafe"), "report"),
    **dict.fromkeys(("ray", "pyarrow"), "ray"),
    **dict.fromkeys(("fastapi", "pydantic", "starlette", "uvicorn", "prometheus_client"), "serve"),
}
"""A module that may not be installed -> the extra that brings it."""

_JOBS = {
    ("evaluate", "torch"): "evaluate --snapshot",
    ("evaluate", "matplotlib"): "evaluate --reliability",
    ("score", "pyarrow"): "score --engine ray",
    ("score", "ray"): "score --engine ray",
    ("train", "tensorboard"): "train --tensorboard",
    ("verify", "torch"): "verify --snapshot",
}
"""A command and a module -> what of the command needs it, where that is not all of it."""

_WITHOUT_PRODUCTS = ("score", "predict", "explain", "serve")
"""Commands that leave all products to ONNX Runtime."""


class _Commands(Mapping[str, Any]):
    """The commands by name. A module is loaded with the first use of its command, and a run uses one of them."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _command(name)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Toolchain(Group):
    """All of it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]


app = typer.Typer(
    cls=_Toolchain,
    help="Train small review classifiers, export them as one text-in file, prove the export, score files with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich would take longer to load than the help to be read
)
_debug = False


def _version_and_exit(wanted: bool) -> None:
    if wanted:
        show(f"toolchain {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version_and_exit, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    be_quiet(False)  # which an earlier command in this process may have been


def _one_line_an_error(command: Callable[..., None], name: str) -> Callable[..., None]:
    """The command `name`, whose errors become one line on stderr and an exit status."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (UsageError, ExportError, CheckFailed) as error:
            if _debug:
                raise
            fail(str(error))
            raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from None
        except ModuleNotFoundError as error:
            module = (error.name or "").split(".")[0]
            extra = _EXTRAS.get(module)
            if _debug or extra is None:
                raise
            fail(
                f"{_JOBS.get((name, module), name)} needs {module}, which is not installed; install all it needs: "
                f"pip install 'toolchain[{extra}]'"
            )
            raise typer.Exit(2) from None
        except OSError as error:
            if _debug or isinstance(error, BrokenPipeError):
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            fail(where + (error.strerror or str(error)))
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            interrupted(str(error) or "nothing was written")
            raise typer.Exit(130) from None

    return run


@functools.cache
def _command(name: str) -> Any:
    """The command that the function in its module makes."""
    if name in _WITHOUT_PRODUCTS:  # while numpy loads, each thread for its own products keeps a core busy
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    python_name = "import_" if name == "import" else name
    function = getattr(importlib.import_module(f"toolchain.cli.{python_name}"), python_name)
    alone = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
    alone.command(name=name, cls=Command, help=paragraphs(function.__doc__ or ""))(_one_line_an_error(function, name))
    return typer.main.get_command(alone)
