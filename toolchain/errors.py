"""The two ways a command ends badly; the command line turns them into one line and an exit status."""


class UsageError(Exception):
    """Wrong use or unusable input (exit status 2). The message says what is wrong, where, and what to do."""


class CheckFailed(Exception):
    """The work was done and a check on it failed (exit status 1)."""


QUOTED = 80
"""How many characters of anything an error quotes."""


def quoted(text: str) -> str:
    """What an error shows of a text that may be long, or hold line ends: its first characters, on one line."""
    line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[: QUOTED + 1])
    return line if len(line) <= QUOTED else f"{line[:QUOTED]} …"
