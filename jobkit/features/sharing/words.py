"""Words: one line of text with which another machine may join, `jk1.…`.

A word is an address, the fingerprint of the certificate there, and a ticket. Whether the ticket is valid is decided by
the sharing machine, by its own clock; the time in the word is only for messages.
"""

from __future__ import annotations

import base64
import hashlib
import re

import msgspec

from jobkit.joined import address_of
from jobkit.model import InvalidParams

_VERSION = "jk1"
_CHECK_BYTES = 4


class Word(msgspec.Struct, frozen=True, array_like=True):
    """Content of a word.

    Attributes:
        fingerprint: SHA-256 of the certificate. ticket: 16 random bytes. expires: seconds since the epoch.
    """

    host: str
    port: int
    fingerprint: bytes
    ticket: bytes
    expires: int

    def __repr__(self) -> str:
        return f"Word({self.address!r})"

    @property
    def address(self) -> str:
        return address_of(self.host, self.port)

    def text(self) -> str:
        """Return the word as people paste it."""
        body = msgspec.msgpack.encode(self)
        return f"{_VERSION}.{base64.urlsafe_b64encode(body + _check(body)).decode().rstrip('=')}"


def read_word(text: str) -> Word:
    """Return the content of a word; the whole line `jobkit join jk1.…` is accepted, too.

    Raises:
        InvalidParams: it is not a word, of another version, or not whole.
    """
    found = re.fullmatch(r"\s*(?:\$?\s*jobkit\s+join\s+)?(jk\d+)\.([\w-]*)\s*", text)
    if found is None:
        raise InvalidParams("a word begins with jk1. and has no spaces; `jobkit share` prints one", "word")
    version, body = found.groups()
    if version != _VERSION:
        raise InvalidParams(
            f"this word is of another version of jobkit ({version}, this one reads {_VERSION}): install the version of "
            "the sharing machine",
            "word",
        )
    try:
        raw = base64.urlsafe_b64decode(f"{body}===")
        if _check(raw[:-_CHECK_BYTES]) != raw[-_CHECK_BYTES:]:
            raise ValueError
        return msgspec.msgpack.decode(raw[:-_CHECK_BYTES], type=Word)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidParams("this word is torn or has a typing error: copy the whole of it again", "word") from None


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"jobkit-word\0" + body).digest()[:_CHECK_BYTES]
