"""Writes each case to a file before its call, so that the last call of a crashed worker is known."""

import atexit
from pathlib import Path

from ..cases.case import Case
from ..cases.spelling import shortest_repr


class LastCall:
    """Keeps the last noted case in a file; without a path, does nothing."""

    def __init__(self, path: Path | None = None):
        self.file = open(path, "w", encoding="utf-8") if path else None  # noqa: SIM115 (open as long as the process lives)
        if self.file:
            atexit.register(self.file.close)

    def note(self, case: Case) -> None:
        """Replace the text of the file by the repr of the case."""
        if self.file:
            self.file.seek(0)
            self.file.write(shortest_repr(case))
            self.file.truncate()
            self.file.flush()


def path_of(report: str, worker: str) -> Path:
    """The file of a worker, beside the record. report: path of the record. worker: id of the worker, or a pattern."""
    return Path(report).with_suffix(f".{worker}.call")


def taken(path: Path) -> str:
    """The repr of the last noted case; empty if there is no file. Removes the file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    finally:
        path.unlink(missing_ok=True)
