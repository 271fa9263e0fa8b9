"""`toolchain doctor`: what is installed, and what really works."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, show

if TYPE_CHECKING:
    from toolchain.judging.installation import Finding


def doctor(as_json: Annotated[bool, options.as_json("the findings", None)] = False) -> None:
    """Show what is installed, which providers really work, and what to install.

    Examples:
    toolchain doctor
    toolchain doctor --json
    """
    import dataclasses

    from toolchain.judging.installation import examine

    findings = examine()
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
        return
    print_findings(findings)


def print_findings(findings: "Iterable[Finding]") -> None:
    """What `doctor` found, a line each, on stdout."""
    marks = {True: "[green]ok", False: "[red]--", None: "  "}
    for finding in findings:
        show(f"{marks[finding.ok]}  {finding.what:20s} {escape(finding.state)}", soft_wrap=True)
