"""SIGHUP has two meanings: a new bundle is there, or the terminal has gone."""

import os
import signal
import time

_LOOKS = 5
_LOOK_SECONDS = 0.02


def has_terminal() -> bool:
    """Whether SIGHUP could mean that the terminal was closed: there is one, and `nohup` did not say to outlive it."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def terminal_is_gone() -> bool:
    """Whether there is none, or none any more a moment later: the signal may come before the terminal has gone."""
    for _ in range(_LOOKS):
        if not has_terminal():
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def hold_hangups() -> None:
    """Keep SIGHUP until `release_hangups`, in this process and in those it starts; it would end them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release_hangups() -> None:
    """Let SIGHUP through, also one that came meanwhile."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
