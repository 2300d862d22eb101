"""Log of a worker on standard error: lines to read, or JSON for a collector of logs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime


def log_to_stderr(log_format: str, *, verbose: bool, quiet: Sequence[str] = ("asyncio", "arq")) -> None:
    """Set up the logging of this process.

    Args:
        log_format: "text", or "json" for one object a line, see `JsonLines`.
        verbose: also messages of level DEBUG.
        quiet: loggers of which only warnings are wanted.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if log_format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for chatty in quiet:
        logging.getLogger(chatty).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", "job_id"?, "exception"?}`, time as ISO 8601 in UTC.

    A line belongs to a job if its format begins with the id, as ours do: "job %s ...".
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if isinstance(record.msg, str) and record.msg.startswith("job %s") and isinstance(record.args, tuple):
            line["job_id"] = str(record.args[0])
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
