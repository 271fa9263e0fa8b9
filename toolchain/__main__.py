"""`python -m toolchain`, alone or as one of several processes that torchrun started."""

import io
import os
import sys
import time

from toolchain.cli.app import app

PATIENCE = 10.0
"""Seconds in which the first process says what is wrong. torchrun ends all of them as soon as one has failed, and what
fails one, such as a file that is not there, fails the first as a rule."""


def main() -> None:
    """Run the command. Of several processes the first speaks, and another one only where it alone has failed."""
    rank = os.environ.get("RANK") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if rank in (None, "0"):
        app(prog_name="toolchain")
        return
    said = io.BytesIO()
    sys.stdout = sys.stderr = io.TextIOWrapper(said, encoding="utf-8", write_through=True)
    try:
        app(prog_name="toolchain")
    except SystemExit as end:
        if end.code in (1, 2):
            time.sleep(PATIENCE)
            print(f"process {rank}:\n{said.getvalue().decode()}", file=sys.__stderr__)
        raise
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


if __name__ == "__main__":
    main()
