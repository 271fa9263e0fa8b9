"""The base of everything this package refuses."""


class ExportError(Exception):
    """A refusal with a message for the user: what is wrong, where, what to do."""
