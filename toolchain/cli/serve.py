"""`toolchain serve`: a bundle behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import is_quiet

LIMITS = "Limits"


def serve(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder with the bundle. Default: ./bundle, or the model in the box.", show_default=False),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all.", rich_help_panel=options.RUN)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.", rich_help_panel=options.RUN)
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=256, help="Processes, which share the cores between them.", rich_help_panel=options.RUN
        ),
    ] = 1,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Take over a new bundle within seconds. Without it: on SIGHUP.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    provider: Annotated[str, options.provider(options.MODEL)] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("fp32", "int8"),
            help="fp32, or int8 where the bundle has it.",
            rich_help_panel=options.MODEL,
        ),
    ] = "fp32",
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Bytes in a request.", rich_help_panel=LIMITS)] = 4_000_000,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts in a request.", rich_help_panel=LIMITS)] = 1_000,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters in a text.", rich_help_panel=LIMITS)] = 100_000,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Texts that wait for the model in a process.", rich_help_panel=LIMITS)
    ] = 4_000,
    grace_seconds: Annotated[
        int, typer.Option(min=0, help="Time at SIGTERM for what is under way.", rich_help_panel=LIMITS)
    ] = 30,
    quiet: options.Quiet = False,
) -> None:
    """Answer over HTTP: POST /score, /score/batch and /explain, a page to type into, /openapi.json, /metrics.

    Requests that come at the same time are scored together. SIGHUP takes over a new bundle without losing a request,
    SIGTERM and Ctrl-C end when what is under way is answered. There is no login and no encryption: outside your own
    machine, put it behind a proxy that has both.

    Examples:
    toolchain serve bundle
    toolchain serve bundle --host 0.0.0.0 --port 8080 --workers 2 --watch
    """
    import logging

    from toolchain.scoring.default import find_bundle
    from toolchain.serving import server
    from toolchain.serving.logs import log_to_stderr
    from toolchain.serving.settings import Limits, Settings

    limits = Limits(max_body_bytes, max_texts, max_characters, max_waiting)
    folder = bundle or find_bundle()
    settings = Settings(folder, provider, precision, host, port, workers, watch, grace_seconds, limits)
    log_to_stderr(logging.WARNING if is_quiet() else logging.INFO)
    server.serve(settings)
