"""HTTP of a gateway: joining, and the base of all other handlers, which are for members only."""

from __future__ import annotations

import base64
import binascii
import json
import socket
import sys
from typing import Any

import msgspec
from tornado.web import HTTPError, RequestHandler

from jobkit.codec import Codec
from jobkit.embedded.home import Home, own_version, say
from jobkit.features.sharing.members import (
    JOIN_PATH,
    LEAVE_PATH,
    JoinRefused,
    JoinReply,
    JoinRequest,
    Member,
    Members,
    remove_members,
)
from jobkit.features.sharing.rights import MemberRole
from jobkit.joined import KEYS_PATH
from jobkit.keys import proof_of
from jobkit.model import JobkitError, SignatureError

#: `(path, handler)`. All handlers but that of joining are `MemberHandler`s.
Routes = list[tuple[str, type[RequestHandler]]]


class Refused(HTTPError):
    """A request that cannot be met; the message is the sentence for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status)
        self.message = message


class GatewayHandler(RequestHandler):
    """A handler of the gateway, which answers errors, `Refused` above all, by a sentence: `{"message": ...}`."""

    @property
    def home(self) -> Home:
        home: Home = self.settings["home"]
        return home

    @property
    def members(self) -> Members:
        members: Members = self.settings["members"]
        return members

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        general = f"the gateway does not accept this request ({status_code}: {self._reason})"
        self.finish({"message": error.message if isinstance(error, Refused) else general})


class JoinHandler(GatewayHandler):
    """`POST /join`: a ticket becomes credentials."""

    def post(self) -> None:
        try:
            asked = msgspec.json.decode(self.request.body, type=JoinRequest)
        except msgspec.MsgspecError:
            raise Refused(400, "this is not a request of `jobkit join`") from None
        try:
            member, password = self.members.redeem(asked.ticket, asked.machine, asked.about)
            secret = self.home.secret(member.namespace) if member.role is MemberRole.WORKER else ""
        except JoinRefused as error:
            say(f"a machine at {self.request.remote_ip} may not join: {error}")
            raise Refused(403, str(error)) from None
        except (JobkitError, OSError) as error:
            raise Refused(503, f"the sharing machine cannot let anyone join: {error}") from None
        say(f"{member.name} at {self.request.remote_ip} has joined as a {member.role}")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        reply = JoinReply(
            name=member.name,
            machine=socket.gethostname(),
            user=member.user,
            password=password,
            role=str(member.role),
            namespace=member.namespace,
            secret=secret,
            version=own_version(),
            python=python,
            results=self.members.read().shared_results,
        )
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(reply))


class MemberHandler(GatewayHandler):
    """A handler for members: `self.member` sends the request.

    All others get 401 in `prepare`, before a body of `stream_request_body` is read. A handler that overrides `prepare`
    calls this one first. A request that takes long calls `check_member` again before it takes effect.
    """

    member: Member

    def prepare(self) -> None:
        self.member = self.check_member()
        self.settings["gateway"].admit(self.request.connection)

    def check_member(self) -> Member:
        """Return the sender of the request. Raises Refused (401) if it is not a member, or was revoked meanwhile."""
        found = self._sender()
        if found is None:
            raise Refused(401, "this machine was revoked, or has not joined: `jobkit share` there prints a new word")
        return found

    def _sender(self) -> Member | None:
        kind, _, rest = self.request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(rest).decode("ascii").partition(":")
            return self.members.read().member(user, password) if kind == "Basic" else None
        except (binascii.Error, ValueError):
            return None


class AboutHandler(MemberHandler):
    """`GET /about`: what the caller is here; to test a membership."""

    def get(self) -> None:
        role, name = str(self.member.role), self.member.name
        self.finish(
            json.dumps({"name": name, "role": role, "namespace": self.member.namespace, "version": own_version()})
        )


class KeysHandler(MemberHandler):
    """`POST /keys`: the keys of payloads as they are now, for a member that has had one of them.

    A job on its machine may send requests with the member's credentials, but has no key.
    """

    def post(self) -> None:
        try:
            secret = self.home.secret(self.member.namespace)
            Codec.from_secret(secret).verify(self.request.body, proof_of(self.member.user))
        except SignatureError:
            raise Refused(403, "this machine has no key of this namespace: join again") from None
        except (JobkitError, OSError) as error:
            raise Refused(503, f"the sharing machine cannot read its keys: {error}") from None
        self.check_member()  # one that was revoked meanwhile must not get the key that replaces what it knew
        self.finish({"secret": secret})


class LeaveHandler(MemberHandler):
    """`POST /leave`: the caller is no longer a member, as after `jobkit share --revoke`. Its word stays valid."""

    def post(self) -> None:
        try:
            remove_members(self.home, self.members, (self.member.name,), has_left=True)
        except JobkitError as error:
            raise Refused(503, str(error)) from None
        say(f"{self.member.name} at {self.request.remote_ip} has left")
        self.finish({"name": self.member.name})


ROUTES: Routes = [
    (JOIN_PATH, JoinHandler),
    (LEAVE_PATH, LeaveHandler),
    (KEYS_PATH, KeysHandler),
    ("/about", AboutHandler),
]
