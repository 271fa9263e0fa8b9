"""What can be set of a service."""

from dataclasses import dataclass, field
from pathlib import Path

from toolchain.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many texts may wait for the model at a time in one process."""

    body_bytes: int = 4_000_000
    texts: int = 1_000
    characters: int = 100_000
    waiting: int = 4_000

    def __post_init__(self) -> None:
        if self.waiting < self.texts:
            raise UsageError(
                f"--max-waiting {self.waiting}: less than --max-texts ({self.texts}), so a full batch would never be "
                "taken; allow more to wait, or fewer in a request"
            )


@dataclass(frozen=True)
class Settings:
    """A service: its bundle, how it is scored, where it listens.

    `watch` looks for a new bundle every few seconds; SIGHUP does so at once. What is under way at SIGTERM has
    `grace_seconds` to end.
    """

    bundle: Path
    provider: str = "auto"
    precision: str = "fp32"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    watch: bool = False
    grace_seconds: int = 30
    limits: Limits = field(default_factory=Limits)
