"""`toolchain serve`: a bundle behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import is_quiet

LIMITS = "Limits"


def serve(
    bundle: Annotated[Path | None, options.bundle_argument("model")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0 is every network.", rich_help_panel=options.RUN)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port to listen on. 0 takes one that is free.", rich_help_panel=options.RUN
        ),
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(min=1, max=256, help="Processes. They share the cores.", rich_help_panel=options.RUN),
    ] = 1,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Load a new bundle as soon as it is there. Without it: on SIGHUP.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    provider: Annotated[str, options.provider(options.MODEL)] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("fp32", "int8"),
            metavar="fp32|int8",
            help="int8 is faster on processors with VNNI, with nearly the same answers. "
            "CPU only; the bundle must hold it.",
            rich_help_panel=options.MODEL,
        ),
    ] = "fp32",
    max_body_bytes: Annotated[
        int, typer.Option(min=1, help="Most bytes in a request.", rich_help_panel=LIMITS)
    ] = 4_000_000,
    max_texts: Annotated[int, typer.Option(min=1, help="Most texts in a request.", rich_help_panel=LIMITS)] = 1_000,
    max_characters: Annotated[
        int, typer.Option(min=1, help="Most characters in a text.", rich_help_panel=LIMITS)
    ] = 100_000,
    max_waiting: Annotated[
        int,
        typer.Option(
            min=1, help="Most texts that may wait in a process. Beyond it: status 503.", rich_help_panel=LIMITS
        ),
    ] = 4_000,
    grace_seconds: Annotated[
        int, typer.Option(min=0, help="Seconds that SIGTERM leaves open requests to finish.", rich_help_panel=LIMITS)
    ] = 30,
    quiet: options.Quiet = False,
) -> None:
    """Serve a model over HTTP: /score, /score/batch, /explain, a page to type into, /openapi.json, /metrics.

    Requests that arrive together are scored together. SIGHUP loads a new bundle without losing a request. SIGTERM and
    Ctrl-C stop it when open requests are answered. It has no login and no encryption: outside your own machine, put it
    behind a proxy that has both.

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
    folder = find_bundle(bundle)
    settings = Settings(folder, provider, precision, host, port, workers, watch, grace_seconds, limits)
    log_to_stderr(logging.WARNING if is_quiet() else logging.INFO)
    server.serve(settings)
