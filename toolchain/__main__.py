"""`python -m toolchain`."""

from toolchain.cli import app

app(prog_name="toolchain")
