"""The two ways a command ends badly; the command line turns them into one line and an exit status."""


class UsageError(Exception):
    """Wrong use or unusable input (exit status 2). The message says what is wrong, where, and what to do."""


class CheckFailed(Exception):
    """The work was done and a check on it failed (exit status 1)."""
