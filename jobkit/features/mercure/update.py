"""Updates of the Mercure hub as the store keeps them, and which topics publishers may use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import msgspec

from jobkit.model import InvalidParams

Place = tuple[int, int, int]

#: Bytes of one topic, and of the data of one update that Python code publishes (HTTP bounds its bodies).
MAX_TOPIC_BYTES, MAX_DATA_BYTES = 4096, 1 << 20

#: Owners of reserved topics, which publishers must not use.
JOBS, HUB = "jobs", "hub"

#: Consecutive segments of the path in topics of jobs, and in addresses of the hub.
_RESERVED = {("api", "jobs"): JOBS, (".well-known", "mercure"): HUB}

#: Times that a topic may be percent-encoded.
_MOST_DECODINGS = 10


class Update(msgspec.Struct, omit_defaults=True):
    """An update, as the store keeps it.

    Attributes:
        id: of its publisher; if there is none, subscribers see one that is made from `place`.
        retry: milliseconds after which subscribers reconnect; 0 for their default.
        form: protocol that gets it, if it is about a subscription; "" for both.
        place: its place in the order; not stored.
    """

    topics: list[str]
    data: str
    type: str = ""
    id: str = ""
    retry: int = 0
    private: bool = False
    form: str = ""
    place: Place = (0, 0, 0)


def new_update(topic: str, data: Any, *, private: bool, type: str) -> bytes:
    """Return an update of Python code as the store keeps it (JSON). `data`: text, or a value that becomes JSON.

    Raises:
        InvalidParams: the topic is not allowed, or something is too large or cannot become JSON.
    """
    if problem := topic_problem(topic):
        raise InvalidParams(problem, "topic")
    if topic == "*" or reservation(topic, "/.well-known/mercure")[0]:
        raise InvalidParams(
            f"{topic!r} is not a topic to publish to: topics with /api/jobs are those of jobs, and the hub has its own",
            "topic",
        )
    if not isinstance(type, str) or type == "mercure" or len(type) > 1000 or has_control_characters(type):
        raise InvalidParams("type must be a short text, and not mercure, which is the hub's own", "type")
    try:
        text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidParams("data must be text, or a value that can be written as JSON", "data") from None
    if size > MAX_DATA_BYTES:
        raise InvalidParams(f"data must have at most {MAX_DATA_BYTES:,} bytes, not {size:,}", "data")
    return msgspec.json.encode(Update([topic], text, type=type, private=private))


def topic_problem(topic: object) -> str:
    """Return what is wrong with the text of a topic or selector in one sentence, else ""."""
    if not isinstance(topic, str) or not topic:
        return "a topic must be text and not empty"
    if len(topic.encode("utf-8", "surrogatepass")) > MAX_TOPIC_BYTES:
        return f"a topic must have at most {MAX_TOPIC_BYTES} bytes"
    return "a topic must not have control characters" if has_control_characters(topic) else ""


def has_control_characters(text: str) -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in text)


def reservation(topic: str, hub_path: str) -> tuple[str, str]:
    """Return `JOBS` or `HUB` if a client could take a topic for that of a job, or of the hub itself, else "".

    Only the path decides, below any prefix. It is read as the most lenient client would read it: percent-encodings
    decoded repeatedly, backslashes as slashes, dots resolved and not, relative to the hub and not, in any case and
    width of letters. A topic is free only if no reading of it is reserved.

    Returns:
        also the topic as it was decoded.
    """
    text = re.split("[?#]", topic, maxsplit=1)[0]
    for _ in range(_MOST_DECODINGS):
        before, text = text, unquote(unicodedata.normalize("NFKC", text)).casefold()
        if text == before:
            break
    else:
        return HUB, text  # not a topic in good faith
    whole, text = text, re.sub(r"^\s*[a-z][a-z0-9+.-]*:", "", text).replace("\\", "/")
    parts = [part.strip() for part in text.split("/")]
    readings = [[part for part in parts if part not in ("", ".", "..")], _without_dots(parts)]
    if not text.startswith("/"):
        readings.append(_without_dots([*hub_path.split("/")[:-1], *parts]))
    for reading in readings:
        for pair in pairwise(reading):
            if pair in _RESERVED:
                return _RESERVED[pair], whole
    return "", whole


def _without_dots(parts: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return kept
