"""Keys that are replaced while processes run: after `jobkit share --revoke`, or in the file of `JOBKIT_SECRET_FILE`.

A process reads them again when it meets a payload of a key that it does not know, and before it trusts what does not
come from the store.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from jobkit.codec import RAW, Codec, Subject
from jobkit.joined import KEYS_PATH, SCHEME, Membership, folder_of, membership_of
from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.settings import Settings, secret_in

#: Seconds to wait for the sharing machine.
_ANSWER_S = 10.0


def codec_of(settings: Settings) -> Codec:
    """Return the codec with the keys of settings, which reads them again when they were replaced."""
    return Codec.from_secret(settings.secret, partial(current_secret, settings))


def current_secret(settings: Settings) -> str:
    """Return the keys of settings as they are now, in the form of `JOBKIT_SECRET`; "" if that is not known.

    Raises StoreUnavailable if the machine that shares a joined place is not reached.
    """
    with suppress(InvalidParams):  # the file is gone, or this machine has left the place
        if settings.secret_file:
            return secret_in(settings.secret_file)
        if settings.scheme == SCHEME:
            return _of_place(settings.url, settings.home)
    return ""


def _of_place(url: str, home: Path) -> str:
    """Return the keys of a joined place, and keep them for later processes of this machine."""
    member = membership_of(url, home)
    secret = _requested(member)
    path = folder_of(home) / f"{url.partition('://')[2]}.json"
    from jobkit.access.own_machine import write_private

    if secret not in ("", member.secret) and path.exists():  # else the URL contains the membership itself
        with suppress(OSError):
            write_private(path, msgspec.json.encode(replace(member, secret=secret)).decode())
    return secret


def proof_of(user: str) -> Subject:
    """Return the subject of what a member seals to show that it has had a key, which jobs on it have not."""
    return Subject("keys", "", user)


def _requested(member: Membership) -> str:
    import http.client  # takes 10 ms

    proof = Codec.from_secret(member.secret).seal(RAW, b"", proof_of(member.user))
    context = member.tls("http/1.1")
    try:
        with closing(
            http.client.HTTPSConnection(member.host, member.port, timeout=_ANSWER_S, context=context)
        ) as connection:
            connection.request("POST", KEYS_PATH, proof, {"Authorization": member.authorization()})
            answer = connection.getresponse()
            content = answer.read(100_000)
        if answer.status in (401, 403):  # it was revoked
            return ""
        if answer.status != 200:
            raise ConnectionError(f"it answers {answer.status}")
        return str(json.loads(content)["secret"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        why = str(error) or type(error).__name__
        raise StoreUnavailable(f"the machine that shares {member.name} does not tell its keys: {why}") from None
