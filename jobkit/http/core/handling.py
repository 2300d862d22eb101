"""`Api`: from a request to its response. The adapters call `handle` on their own event loop; it never raises.

Host, origin, path, size, token, rate, query and body are checked in this order before a handler runs. An error that a
handler raises becomes problem details with one sentence. Nothing here unpickles.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from jobkit.access.own_machine import (
    AccessDecision,
    RequestSender,
    decide,
    is_own_host,
    unknown_host,
    without_default_port,
)
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features import services
from jobkit.http.auth import access
from jobkit.http.auth.access import NAMELESS, Grant, Rate
from jobkit.http.core.tail import Tail, on_loop
from jobkit.http.messages import (
    Problem,
    Request,
    Response,
    Route,
    find_route,
    json_response,
    methods_of,
    printable,
    read_body,
    read_query,
)
from jobkit.model import (
    InvalidParams,
    JobkitError,
    JobNotFound,
    QuestionClosed,
    ResultExpired,
    ResultUnavailable,
    SignatureError,
    StoreUnavailable,
    SubmitUnanswered,
    UnknownTask,
)
from jobkit.model.person import AuditEntry
from jobkit.settings import Settings, checked_name

logger = logging.getLogger("jobkit.http")

T = TypeVar("T")

_READS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})

_ALLOWED_HEADERS = "Authorization, Cache-Control, Content-Type, If-None-Match, Last-Event-ID, X-XSRFToken"
_EXPOSED_HEADERS = ("ETag", "Last-Event-ID", "Link", "Location", "Retry-After", "X-Jobkit-Type")

#: Headers of every response, unless its handler sets others.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "private, no-cache",
}


# -- host and origin ---------------------------------------------------------------------------------------------------


def check_host(request: Request, hosts: Collection[str]) -> None:
    """Refuse (421) a Host header that is not a name of this server: links are made from it. See `is_own_host`."""
    if not is_own_host(request.host, hosts):
        raise Problem(421, "unknown_host", unknown_host(request.host), "host")


def is_trusted(page: str, request: Request, origins: Collection[str]) -> bool:
    """Return whether a page, by its URL or origin, is of this server, or its origin is in `origins`."""
    scheme, _, rest = page.partition("://")
    host = rest.partition("/")[0]
    if not page:
        return False
    if page in origins or f"{scheme}://{host}" in origins:
        return True
    return without_default_port(host) == without_default_port(request.host) != ""  # a proxy hides the scheme


def check_origin(request: Request, origins: Collection[str]) -> None:
    """Refuse (403) a request that changes something and that a page of another site made a browser send."""
    if request.method in _READS:
        return
    origin = request.headers.get("origin")
    if origin is None:
        is_allowed = request.headers.get("sec-fetch-site", "none") != "cross-site"
    else:
        is_allowed = is_trusted(origin, request, origins)
    if not is_allowed:
        who = "other sites" if origin is None else printable(origin)
        raise Problem(403, "forbidden_origin", f"pages of {who} may not do this", "origin")


# -- the API -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server, and of one caller: a person, token or anonymous address."""

    body_bytes: int = 1 << 20  #: of a request's body
    per_s: float = 200.0  #: requests of one caller per second, in the long run
    burst: float = 2000.0  #: and at once
    failures_per_s: float = 1.0  #: rejected tokens of one address per second, in the long run
    failures_burst: float = 20.0  #: and at once
    streams: int = 1000  #: open streams of the server
    streams_per_subject: int = 100  #: open streams of one caller
    topics_per_subject: int = 1000  #: topics of all open hub streams of one caller
    heartbeat_s: float = 15.0  #: seconds of silence after which a stream sends a comment
    slow_s: float = 10.0  #: seconds after which a client that takes nothing is disconnected
    stream_s: float = 3600.0  #: seconds that a stream lasts at most; clients then reconnect by themselves


@dataclass(slots=True)
class ApiCall:
    """One admitted request: its checked parts, and what handlers need."""

    api: Api
    kit: Kit
    request: Request
    route: Route
    params: dict[str, str]
    grant: Grant = Grant()
    query: Any = None
    body: Any = None

    @property
    def subject(self) -> str:
        """Key of rate limits: the person with all tokens and logins, else the token, else the address."""
        if self.grant.subject and self.grant.subject != NAMELESS:
            return f"subject {self.grant.subject}"
        return f"token {self.grant.token_id}" if self.grant.token_id else f"address {self.request.peer}"

    @property
    def base(self) -> str:
        """URL of the API's root, without a slash at the end. Its host was checked."""
        return self.api.public_url or f"{self.request.scheme}://{self.request.host}{self.request.prefix}"

    def job_url(self, job_id: str) -> str:
        return f"{self.base}/api/jobs/{job_id}"

    async def find(
        self,
        field: str,
        word: str,
        read: Callable[[str], Awaitable[T | None]],
        sees: Callable[[T], bool],
        *,
        noun: str = "",
    ) -> T:
        """Return the record that a parameter of the path names; `noun` is for people, if `word` is not.

        Raises Problem (404) if there is none, or if the token does not cover it: a caller cannot tell which.
        """
        name, found = self.params[field], None
        with contextlib.suppress(InvalidParams, JobNotFound):
            found = await read(checked_name(field, name))
        if found is None or not sees(found):
            raise Problem(404, f"{word}_not_found", f"there is no {noun or word} {printable(name)!r}", field)
        return found

    def require_task(self, task: str) -> None:
        """Refuse a task that the token does not cover."""
        if not self.grant.covers(task):
            raise access.insufficient(f"this token is not for task {printable(task)!r}")

    def require_all(self) -> None:
        """Refuse what is about all jobs, or those of all owners, to a caller who may see only some of them."""
        about = self.route.about
        if (about == "all" and not self.grant.sees_all) or (about == "owners" and self.grant.owner is not None):
            what = "all jobs" if about == "all" else "jobs of all owners"
            raise access.insufficient(f"this is about {what}, and you may see only some of them", self.route.scope)


@dataclass(eq=False)
class Api:
    """See the module's docstring."""

    source: Callable[[], Kit]  #: returns the kit; called in a thread, at the first request, since it may block
    routes: tuple[Route, ...]  #: see `jobkit.http.routes`
    _: KW_ONLY
    hosts: Collection[str] = ()  #: names (or `name:port`) of the server, besides the loopback names; "*" for any
    origins: Collection[str] = ()  #: of other sites whose pages may use the API with credentials: "https://app.example"
    public_url: str = ""  #: URL of the API's root as seen from outside, if a proxy hides it
    is_open_on_loopback: bool = True  #: the user who runs the server needs no token on this machine
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        self.origins = frozenset(origin.rstrip("/") for origin in self.origins)
        self.public_url = self.public_url.rstrip("/")
        self.hosts = frozenset(filter(None, [*self.hosts, urlsplit(self.public_url).netloc]))
        exposed = {*_EXPOSED_HEADERS, *(name for route in self.routes for name in route.exposes)}
        self._exposed = ", ".join(sorted(exposed))
        self._kit: Kit | None = None
        self._opening: asyncio.Task[Kit] | None = None
        self._rate = Rate(self.limits.per_s, self.limits.burst)
        self._failures = Rate(self.limits.failures_per_s, self.limits.failures_burst)
        self._tails: dict[asyncio.AbstractEventLoop, Tail] = {}
        self._services: list[asyncio.Task[None]] = []
        self.streams_of: Counter[str] = Counter()
        self.topics_of: Counter[str] = Counter()
        self.answered: Counter[tuple[str, int]] = Counter()
        self._kept: dict[type, Any] = {}

    # -- one request ------------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """Return the response to a request. Raises only if it is cancelled."""
        label = "other"
        try:
            response, label = await self._answer(request)
        except (Problem, JobkitError) as error:
            problem = problem_of(error) if isinstance(error, JobkitError) else error
            if self._kit is not None:  # a message may have been written for the server's operator
                problem.message = without_places(problem.message, self._kit.settings)
            response = problem.response()
        except Exception:
            logger.exception("%s %s failed", request.method, printable(request.path))
            response = Problem(500, "internal", "this is a bug of jobkit; the server's log has more").response()
        self.answered[label, response.status] += 1
        self.finish(request, response)
        if request.is_too_large:  # whatever the answer is: the rest of the body is not read
            response.headers["Connection"] = "close"
        if request.method == "HEAD" and response.stream is not None:
            await response.stream.aclose()
            response.stream = None
        return response

    async def _answer(self, request: Request) -> tuple[Response, str]:
        check_host(request, [*self.hosts, *request.server.names])
        if request.method == "OPTIONS":
            return self._options(request), "options"
        check_origin(request, self.origins)
        route, params = find_route(self.routes, request)
        if request.is_too_large:
            raise Problem(413, "too_large", f"the body is larger than {self.limits.body_bytes:,} bytes", "body")
        call = ApiCall(self, await self.kit(), request, route, params)
        await self._admit(call)
        call.query = read_query(request, route.query)
        call.body = read_body(request, route.body, route.body_is_optional)
        try:
            call.require_all()
            answer = await route.handler(call)
        except (Problem, JobkitError) as error:
            self._note(call, "failed", str(error))
            raise
        self._note(call, "done")
        if not isinstance(answer, Response):
            answer = json_response(answer, route.status)
        return answer, route.path

    def _note(self, call: ApiCall, outcome: str, why: str = "") -> None:
        """Record an action in the audit trail, in the background; not a submit, since its job names the owner."""
        if call.route.scope != "operate" and outcome != "refused":
            return
        target = [value for name, value in call.params.items() if name in ("id", "name")]
        action, role = call.route.handler.__name__, call.grant.role or "token"
        entry = AuditEntry.of(call.grant.subject, role, "http", action, call.route.on, target, outcome, why)
        background.spawn(call.kit.verbs.trail.note(entry))  # if the store refuses it: logged, and written later

    async def _admit(self, call: ApiCall) -> None:
        """Find out what the caller may do. Raises Problem if that does not include this route: 401, 403 or 429."""
        request, route = call.request, call.route
        try:
            grant = None if route.asks_itself else await self.grant(request)
        except Problem:
            self.count_failure(request)
            raise
        call.grant = grant or Grant()
        self.count_request(call)
        if not route.scope:
            return
        if grant is None:
            raise access.unauthorized("", self.why_refused(request))
        if not grant.may(route.scope):
            if route.scope != "view":
                self._note(call, "refused")
            message = f"this needs a token with scope {route.scope!r}"
            if grant.role:
                who = printable(grant.subject)
                message = f"{who} may not do this: it takes {route.scope!r}, and their role is {grant.role}"
            raise access.insufficient(message, route.scope)

    def count_request(self, call: ApiCall, cost: float = 1.0) -> None:
        """Count a request of a caller, or several. Raises Problem (429) if there are too many."""
        if wait := self._rate.wait_s(call.subject, cost):
            raise _too_many(wait)

    def count_failure(self, request: Request) -> None:
        """Count a rejected token. Raises Problem (429) if there were too many."""
        if wait := self._failures.wait_s(request.peer):
            raise _too_many(wait) from None

    async def grant(self, request: Request, text: str | None = None) -> Grant | None:
        """Return what the caller may do; see `access.grant_of`. Raises Problem, also if the token was revoked."""
        kit = await self.kit()
        grant = access.grant_of(request, kit.settings, own=self._decide(request, kit.settings), text=text)
        if grant is not None and await self.is_revoked(grant):
            raise access.unauthorized("invalid_token", "the token was revoked")
        return grant

    def why_refused(self, request: Request) -> str:
        """Return in one sentence why a caller without a token or login may do nothing. Needs a kit."""
        own = self._decide(request, self._kit.settings) if self._kit is not None else None
        why = f"{own.why}; a token opens it:" if own is not None else "this server asks for a token:"
        return f"{why} Authorization: Bearer TOKEN (`jobkit token`)"

    def _decide(self, request: Request, settings: Settings) -> AccessDecision | None:
        """Decide whether the server is open to this request; None if it is open to no request."""
        if not self.is_open_on_loopback:
            return None
        server = request.server.configured(settings, names=self.hosts, public_url=self.public_url)
        return decide(RequestSender(request.connection, server, request.host, request.headers, request.cookies()))

    async def is_revoked(self, grant: Grant) -> bool:
        return bool(grant.token_id) and await on_loop((await self.kit()).verbs.store.web.is_revoked(grant.token_id))

    async def holds(self, grant: Grant) -> bool:
        """Return whether a grant still holds: its token is not revoked, its login has the same role."""
        if grant.login is not None:
            return grant.login.now() == grant.login.person
        return not await self.is_revoked(grant)

    # -- shared by all requests ----------------------------------------------------------------------------------------

    async def kit(self) -> Kit:
        """Return the kit. Opened once, in a thread, since an embedded server may have to start first."""
        if self._kit is None:
            if self._opening is None:
                self._opening = asyncio.get_running_loop().create_task(asyncio.to_thread(self.source))
            try:
                kit = await asyncio.shield(self._opening)
            except Exception as error:
                self._opening = None  # the next request tries again
                if isinstance(error, JobkitError):  # of the server's own settings, not of the request
                    raise StoreUnavailable(str(error)) from error
                raise
            if self._kit is None:
                begin = asyncio.get_running_loop().create_task
                found = [module.run(kit, self.public_url) for _, module in services("server", kit.settings)]
                self._services = [begin(each) for each in found]
            self._kit = kit
        return self._kit

    async def tail(self) -> Tail:
        """Return the one reader of events for all streams of this event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._tails:
            self._tails = {kept: tail for kept, tail in self._tails.items() if not kept.is_closed()}
            self._tails[loop] = Tail(await self.kit())
        return self._tails[loop]

    def kept(self, kind: type[T]) -> T:
        """Return this API's one instance of a class, made without arguments at the first call."""
        if kind not in self._kept:
            self._kept[kind] = kind()
        found: T = self._kept[kind]
        return found

    @property
    def streams(self) -> int:
        return self.streams_of.total()

    def count_streams(self, subject: str, streams: int, topics: int) -> None:
        """Add to the numbers of open streams and their topics; negative when one ends."""
        self.streams_of += Counter({subject: streams})  # keeps only what is above 0
        self.topics_of += Counter({subject: topics})

    # -- every answer -----------------------------------------------------------------------------------------------

    def _options(self, request: Request) -> Response:
        methods = methods_of(self.routes, request.path)
        headers = {"Allow": ", ".join(methods)}
        if "access-control-request-method" in request.headers and self._is_allowed_origin(request):
            headers["Access-Control-Allow-Methods"] = ", ".join(name for name in methods if name != "OPTIONS")
            headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            headers["Access-Control-Max-Age"] = "600"
        return Response(204, headers=headers)

    def _is_allowed_origin(self, request: Request) -> bool:
        return request.headers.get("origin", "") in self.origins

    def finish(self, request: Request, response: Response) -> Response:
        """Return the response with the headers that every response has; 304 if the client has it already."""
        headers = response.headers = {**_HEADERS, **response.headers, "Vary": "Accept, Authorization, Cookie, Origin"}
        if self._is_allowed_origin(request):
            headers["Access-Control-Allow-Origin"] = request.headers["origin"]
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = self._exposed
        if response.status == 200 and response.stream is None and request.method in ("GET", "HEAD"):
            tag = headers.setdefault("ETag", f'"{hashlib.sha256(response.body).hexdigest()[:24]}"')
            known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
            if tag in known or "*" in known:
                response.status, response.body = 304, b""
                headers.pop("Content-Type", None)
        return response


def _too_many(wait_s: float) -> Problem:
    seconds = max(1, math.ceil(wait_s))
    message = f"too many requests; come back in {seconds} s"
    return Problem(429, "too_many_requests", message, headers={"Retry-After": str(seconds)})


#: Status, word and field of refusals by kinds of errors; the first that an error is of.
_REFUSALS: dict[type[JobkitError], tuple[int, str, str | None]] = {
    InvalidParams: (422, "invalid_params", None),
    UnknownTask: (404, "unknown_task", "task"),
    JobNotFound: (404, "job_not_found", "id"),
    ResultExpired: (410, "expired", None),
    ResultUnavailable: (410, "result_unavailable", None),
    # Not the caller's fault: Redis holds something that no worker or submitter of ours wrote.
    SignatureError: (502, "signature", None),
    QuestionClosed: (409, "question_closed", None),
    JobkitError: (409, "conflict", None),
}


def problem_of(error: JobkitError) -> Problem:
    """Return the refusal for an error of jobkit."""
    if isinstance(error, StoreUnavailable):  # the reason names the store's address, so callers get a fixed sentence
        logger.warning("a request was answered with 503: %s", error)
        what = "takes no changes just now (it is full, or cannot write)" if error.only_reads else None
        message = f"the store {what or 'does not answer just now'}; the server's log says why"
        job_id = None
        if isinstance(error, SubmitUnanswered):
            job_id = error.job_ids[0]
            message += f". Job {job_id} may have been accepted: GET /api/jobs/{job_id} tells"
            message += '; the same request with this "id" submits it once' if error.id else ""
        return Problem(503, "unavailable", message, headers={"Retry-After": "1"}, id=job_id)
    status, word, field = next(found for kind, found in _REFUSALS.items() if isinstance(error, kind))
    return Problem(status, word, str(error), getattr(error, "field", None) or field)


def without_places(text: str, settings: Settings) -> str:
    """Return a text without the store's URL and the directories of these settings."""
    places = {settings.url, settings.masked_url, str(settings.home), settings.results, settings.login}
    places |= {place.partition("://")[2] for place in places}
    for place in sorted(places, key=len, reverse=True):
        if ("/" in place or ":" in place) and len(place) > 2 and not place.endswith("://"):
            text = text.replace(place, "…")
    return text
