"""SIGHUP has two meanings: a new bundle is there, or the terminal has gone."""

import os
import signal


def has_terminal() -> bool:
    """Whether SIGHUP could mean that the terminal was closed: there is one, and `nohup` did not say to outlive it."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def hold_hangups() -> None:
    """Keep SIGHUP until `release_hangups`, in this process and in those it starts; it would end them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release_hangups() -> None:
    """Let SIGHUP through, also one that came meanwhile."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
