"""The command line: a command parses, calls one library function, prints one value."""

from kit.cli.main import main

__all__ = ["main"]
