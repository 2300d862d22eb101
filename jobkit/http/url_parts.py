"""The parts of a URL as browsers write them: what URL patterns are held against."""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

#: Schemes whose URLs have a host and a path of parts, with the port that is meant where none stands.
SPECIAL = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "file": ""}

#: The parts of a URL that a pattern looks at, in order.
PARTS = ("protocol", "hostname", "port", "pathname", "search", "hash")


def parts_of(url: str, base: str) -> dict[str, str] | None:
    """The parts of a URL as browsers write them, or None where it is none."""
    try:
        whole = urlsplit(urljoin(base, url))
        port = whole.port
    except ValueError:
        return None
    if not whole.scheme or (whole.scheme in SPECIAL and not whole.netloc and whole.scheme != "file"):
        return None
    path = ascii_only(whole.path)
    if whole.netloc or whole.scheme in SPECIAL:
        path = without_dots(path.replace("\\", "/") if whole.scheme in SPECIAL else path)
    shown = "" if port is None or str(port) == SPECIAL.get(whole.scheme) else str(port)
    return {
        "protocol": whole.scheme,
        "hostname": (whole.hostname or "").lower(),
        "port": shown,
        "pathname": path or "/" * bool(whole.netloc),
        "search": ascii_only(whole.query),
        "hash": ascii_only(whole.fragment),
    }


def ascii_only(text: str) -> str:
    """What is not ASCII, and spaces, percent-encoded; a topic that was written either way is the same."""
    if text.isascii() and " " not in text:
        return text
    return "".join(c if c.isascii() and c != " " else quote(c, errors="replace") for c in text)


def without_dots(path: str) -> str:
    kept: list[str] = []
    parts = path.split("/")
    for i, part in enumerate(parts):
        plain = part.lower().replace("%2e", ".")
        is_last = i + 1 == len(parts)
        if plain == "..":
            del kept[max(1, len(kept) - 1) :]
        if plain not in ("..", "."):
            kept.append(part)
        elif is_last:
            kept.append("")
    return "/".join(kept)
