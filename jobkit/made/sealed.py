"""Facts as the store keeps them: compressed and sealed, under the hash of their content."""

from __future__ import annotations

import zlib

from jobkit.codec import RAW, Codec, Subject
from jobkit.made.facts import Made, name_of
from jobkit.model import SignatureError

#: Larger contents are refused by readers: none that was written is so large.
_MOST_BYTES = 4_000_000


def sealed(made: Made, codec: Codec) -> dict[str, bytes]:
    """Return the contents of facts for the store, by name."""
    return {
        name: codec.seal(RAW, zlib.compress(content), Subject("made", name, ""))
        for name, content in made.contents.items()
    }


def opened(envelope: bytes, name: str, codec: Codec) -> bytes:
    """Return a content. Raises SignatureError if it was not sealed under this name with one of our keys."""
    _, body = codec.verify(envelope, Subject("made", name, ""))
    try:
        content = zlib.decompressobj().decompress(body, _MOST_BYTES)
    except zlib.error:
        content = b""
    if name_of(content) != name:
        raise SignatureError("facts of what made a job are damaged")
    return content
