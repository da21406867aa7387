"""Shared by the commands: input that a command cannot use ends it with one line and pytest's exit code 4."""

import argparse
from typing import NoReturn

HARNESS_ERROR, BAD_INPUT = 3, 4  # exit codes, as in pytest: internal error, usage error


class BadInput(Exception):
    """Input that a command cannot use. The message is one line."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong arguments in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with BAD_INPUT."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}\n")
