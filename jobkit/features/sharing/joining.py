"""The side of a joining machine: redeem a word, and keep the membership."""

from __future__ import annotations

import http.client
import json
import platform
import socket
import ssl
import time
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from jobkit.access.own_machine import write_private
from jobkit.embedded.home import make_private, own_version
from jobkit.features.sharing.certificate import fingerprint_of
from jobkit.features.sharing.members import (
    JOIN_PATH,
    LEAVE_PATH,
    JoinRefused,
    JoinReply,
    JoinRequest,
    free_name,
    plain_name,
)
from jobkit.features.sharing.words import Word
from jobkit.joined import Membership, checked_place, folder_of, joined_places, membership_of
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import user_name

#: Seconds to wait for the sharing machine.
_ANSWER_S = 15.0


def join(word: Word, home: Path, name: str | None = None) -> tuple[Membership, JoinReply]:
    """Become a member of the place of a word, and keep the membership in the home, under `name`.

    Without a name it is that of the sharing machine.

    Raises:
        InvalidParams: the name is not valid.
        JoinRefused: the sharing machine refuses the word.
        JobkitError: it cannot be reached, or is another one than the word is from.
    """
    if name is not None:
        checked_place(name)
    folder = folder_of(home)
    make_private(home, "JOBKIT_HOME")
    make_private(folder, "the jobkit home's directory")  # before the word is used up
    reply, certificate = _redeemed(word)
    membership = Membership(
        name=name or _place_name(reply, certificate, home),
        machine=reply.machine,
        host=word.host,
        port=word.port,
        certificate=certificate,
        user=reply.user,
        password=reply.password,
        namespace=reply.namespace,
        role=reply.role,
        secret=reply.secret,
        results=reply.results,
    )
    write_private(folder / f"{membership.name}.json", msgspec.json.encode(membership).decode())
    return membership, reply


def leave(name: str, home: Path) -> str:
    """Forget a joined place, and let the sharing machine forget this one; return why that failed, or "".

    Raises InvalidParams if there is no such place.
    """
    checked_place(name)
    path = folder_of(home) / f"{name}.json"
    if not path.exists():
        membership_of(f"joined://{name}", home)  # raises
    why = ""
    try:
        member = membership_of(f"joined://{name}", home)
        with closing(_connection(member.host, member.port, member.tls("http/1.1"))) as connection:
            connection.request("POST", LEAVE_PATH, headers={"Authorization": member.authorization()})
            answer = connection.getresponse()
            content = answer.read(100_000)
        if answer.status not in (200, 401):  # it was revoked before
            why = _message(content) or f"it answers {answer.status}"
    except (OSError, http.client.HTTPException, JobkitError) as error:
        why = str(error) or type(error).__name__
    path.unlink(missing_ok=True)
    return why


def _connection(host: str, port: int, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=context)


def _redeemed(word: Word) -> tuple[JoinReply, str]:
    """Return the answer of the sharing machine, and its certificate (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint is checked instead
    context.set_alpn_protocols(["http/1.1"])
    try:
        with closing(_connection(word.host, word.port, context)) as connection:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            certificate = connection.sock.getpeercert(binary_form=True) or b""
            if fingerprint_of(certificate) != word.fingerprint:
                raise JobkitError(
                    f"the machine at {word.address} did not make this word (its certificate is another one): "
                    "nothing was sent; ask for a new word"
                )
            about = f"{user_name()}, jobkit {own_version()}, Python {platform.python_version()}"
            body = msgspec.json.encode(JoinRequest(word.ticket.hex(), socket.gethostname(), about))
            connection.request("POST", JOIN_PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read(100_000)
    except (OSError, http.client.HTTPException) as error:
        raise JobkitError(_unreachable(word, error)) from None
    if answer.status != 200:
        raise JoinRefused(_message(content) or f"the machine at {word.address} answers {answer.status}")
    try:
        return msgspec.json.decode(content, type=JoinReply), ssl.DER_cert_to_PEM_cert(certificate)
    except msgspec.MsgspecError:
        raise JobkitError(
            f"the machine at {word.address} has another version of jobkit: install the same one"
        ) from None


def _unreachable(word: Word, error: Exception) -> str:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        why = "no answer"
    hint = "check that it is awake, that both are in one network, and that no firewall is between them"
    if isinstance(error, ConnectionRefusedError):
        hint = "it runs, but shares no longer: `jobkit share` there starts it again"
    late = f" (this word was valid until {time.strftime('%H:%M', time.localtime(word.expires))})"
    return f"the sharing machine at {word.address} cannot be reached ({why}): {hint}" + (
        late if word.expires < time.time() else ""
    )


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _place_name(reply: JoinReply, certificate: str, home: Path) -> str:
    """Return a name for the place: that of the sharing machine, with its namespace and a number if necessary."""
    base = plain_name(reply.machine.partition(".")[0])[:40] or "shared"
    if reply.namespace != "default":
        base += f"-{plain_name(reply.namespace)[:15]}"
    places = joined_places(home)
    return free_name(base, lambda name: name in places and _is_other(f"joined://{name}", certificate, home))


def _is_other(url: str, certificate: str, home: Path) -> bool:
    with suppress(InvalidParams):
        return membership_of(url, home).certificate != certificate
    return False
