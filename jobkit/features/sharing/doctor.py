"""Lines of `jobkit doctor` about a home that is shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jobkit.cli import out
from jobkit.cli.findings import Finding, fail, ok
from jobkit.embedded.home import Home
from jobkit.embedded.launch import server_url
from jobkit.features.sharing.gateway import read_status
from jobkit.features.sharing.hosting import is_shared
from jobkit.features.sharing.members import Members
from jobkit.store.redis import RedisStore


async def findings(store: RedisStore) -> Iterable[Finding]:
    home = Home.at(store.settings.home)
    is_of_home = store.settings.url.partition("?")[0] == server_url(home)
    return _findings(home) if is_of_home and is_shared(home) else ()


def _findings(home: Home) -> Iterator[Finding]:
    known, status = Members(home).read(), read_status(home)
    if status.get("state") == "ready":
        yield ok("sharing", f"{known.host} port {known.port}, {out.count(len(known.members), 'machine')} joined")
    else:
        yield fail("sharing", str(status.get("error") or "the gateway starts"), "run `jobkit share` again")
