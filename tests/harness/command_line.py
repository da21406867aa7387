"""What the commands have in common: what they cannot understand is one line, and exit code 4, as in a run."""

import argparse

HARNESS_ERROR, BAD_INPUT = 3, 4


class BadInput(Exception):
    """What a command cannot use, in one line."""


class Parser(argparse.ArgumentParser):
    """Refuses arguments in one line."""

    def error(self, message):
        self.exit(BAD_INPUT, f"{self.prog}: {message}\n")
