"""The command line: one module a command. It parses, calls one function, and prints."""
