"""A job's log as people use it: lines that are text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from jobkit.model import LogLine


class Line(str):
    """One line of output: text, with `at`, `source`, `level`, `logger` and its number `n`."""

    at: datetime
    source: str
    level: str
    logger: str
    n: int

    def __new__(cls, line: LogLine) -> Line:
        self = super().__new__(cls, line.text)
        self.at, self.source, self.level, self.logger, self.n = line.at, line.source, line.level, line.logger, line.n
        return self


class Logs(list[Line]):
    """Lines, oldest first. `print(logs)` prints them; `"text" in logs` looks inside the lines."""

    def __init__(self, lines: Iterable[LogLine]) -> None:
        super().__init__(map(Line, lines))

    def __str__(self) -> str:
        return "\n".join(self)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and any(text in line for line in self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]  # IPython's printer, which we do not import
