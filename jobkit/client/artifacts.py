"""Artifacts as people use them: what a job saved beside its result."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that a job saved with `jobkit.current().save(name, obj)`; kept as long as the job.

    Attributes:
        name: as it was saved, 1 to 200 printable characters.
        media_type: "image/png", "text/csv", ...
        size_bytes: of its content.
        created_at: when it was saved (aware, UTC, by the worker's clock).
    """

    name: str
    media_type: str
    size_bytes: int
    created_at: datetime
    _fetch: Callable[[], bytes] = field(repr=False, compare=False)

    def read(self) -> bytes:
        """Its content.

        Raises:
            ResultExpired: it is no longer kept, or it is a file that this machine does not reach.
            SignatureError: it is not what the worker stored.
        """
        return self._fetch()

    def save(self, path: str | os.PathLike[str] = ".") -> Path:
        """Write it to a file, whole or not at all; an existing one is replaced.

        Args:
            path: of the file, or a directory, in which it gets its own name.

        Returns:
            the path of the file.
        """
        target = Path(path)
        if target.is_dir():
            target = target / self.name
        content = self.read()
        aside = target.with_name(f".{secrets.token_hex(6)}.part")
        try:
            aside.write_bytes(content)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return target

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "media_type": self.media_type,
            "size_bytes": self.size_bytes,
            "created_at": self.created_at.isoformat().replace("+00:00", "Z"),
        }


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
