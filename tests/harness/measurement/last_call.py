"""The call that a worker was making when it ended: each is written down before it is made."""

import atexit
from pathlib import Path

from ..cases.spelling import shortest_repr


class LastCall:
    """Keeps the last of what it is told, in a file if it is given one."""

    def __init__(self, path=None):
        self.file = open(path, "w", encoding="utf-8") if path else None  # noqa: SIM115 (it lives as long as the process)
        if self.file:
            atexit.register(self.file.close)

    def note(self, case):
        if self.file:
            self.file.seek(0)
            self.file.write(shortest_repr(case))
            self.file.truncate()
            self.file.flush()


def path_of(report, worker):
    """Where a worker of the run that writes this record keeps it."""
    return Path(report).with_suffix(f".{worker}.call")


def taken(path):
    """What was kept there, as text; empty if nothing was. The file is removed."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    finally:
        path.unlink(missing_ok=True)
