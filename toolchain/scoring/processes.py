"""A session belongs to the process that opened it: what happens to a scorer in a child, and in a pickle.

`fork` copies a session without the threads that it waits for, so that the child hangs on its first answer. Whatever
holds a session registers here; in a child it is told to forget the session and opens another when it needs one.
"""

import ctypes
import os
import weakref
from typing import Protocol


class HoldsSession(Protocol):
    """What has opened a session."""

    def forget_session(self) -> None:
        """Let go of what belongs to the process that this one was forked from."""


_holders: "weakref.WeakSet[HoldsSession]" = weakref.WeakSet()


def register(holder: HoldsSession) -> None:
    """Have `holder` told in every child that is forked from now on."""
    _holders.add(holder)


def leave_alone(inherited: object) -> None:
    """Never destroy an object of the parent: the end of a session waits for threads that this process does not have."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_the_child() -> None:
    for holder in list(_holders):
        holder.forget_session()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
