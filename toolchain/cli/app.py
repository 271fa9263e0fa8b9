"""The command line: every command, and what becomes of an error. Data goes to stdout, everything else to stderr."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer

from export.errors import ExportError
from toolchain import __version__
from toolchain.cli.bench import bench
from toolchain.cli.compare import compare
from toolchain.cli.doctor import doctor
from toolchain.cli.evaluate import evaluate
from toolchain.cli.explain import explain
from toolchain.cli.export import export
from toolchain.cli.help import Command, Group, paragraphs
from toolchain.cli.import_ import import_
from toolchain.cli.inspect import inspect
from toolchain.cli.predict import predict
from toolchain.cli.report import report
from toolchain.cli.score import score
from toolchain.cli.serve import serve
from toolchain.cli.terminal import be_quiet, fail, interrupted, show
from toolchain.cli.train import train
from toolchain.cli.verify import verify
from toolchain.errors import CheckFailed, UsageError

COMMANDS = (
    train,
    evaluate,
    import_,
    export,
    verify,
    score,
    predict,
    explain,
    serve,
    report,
    compare,
    inspect,
    bench,
    doctor,
)

_EXTRAS = dict.fromkeys(("torch", "torchtext", "onnx", "matplotlib", "gensim", "sklearn"), "train") | {
    "tensorboard": "tensorboard",
    **dict.fromkeys(("jinja2", "markupsafe", "vl_convert"), "report"),
    **dict.fromkeys(("ray", "pyarrow"), "ray"),
    **dict.fromkeys(("fastapi", "pydantic", "starlette", "uvicorn", "prometheus_client"), "serve"),
}
"""A module that may not be installed -> the extra that brings it."""

app = typer.Typer(
    cls=Group,
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


def _one_line_an_error(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose errors become one line on stderr and an exit status."""

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
            extra = _EXTRAS.get((error.name or "").split(".")[0])
            if _debug or extra is None:
                raise
            fail(f"{error.name} is not installed; install it: pip install 'toolchain[{extra}]'")
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


for _command in COMMANDS:
    app.command(
        name=_command.__name__.rstrip("_"), cls=Command, help=paragraphs(_command.__doc__ or ""), no_args_is_help=False
    )(_one_line_an_error(_command))
