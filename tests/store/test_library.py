"""The library of functions: loaded if missing, beside libraries of other versions, without state between calls."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from jobkit.model import LogLine, StoreUnavailable
from jobkit.store import library
from jobkit.store.connect import open_blocking
from jobkit.store.library import Library, run_blocking
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.sending import DirectSubmit
from jobkit.store.values import AttemptNews
from tests.support import until

from .conftest import settings_for
from .server import Server, running_server
from .support import claim, ending, job, started, submit, worker

server = pytest.fixture(running_server, name="server")


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(server.url))
    yield store
    await store.close()


def other_version(n: int) -> Library:
    """Return a library whose text differs by a comment."""
    text = library.current.sources["lib/call"]
    return Library({**library.current.sources, "lib/call": f"{text}-- version {n}\n"})


async def libraries(store: RedisStore) -> set[str]:
    listed = await store.redis.function_list()
    return {dict(zip(entry[::2], entry[1::2], strict=True))[b"library_name"].decode() for entry in listed}


async def test_versions_share_a_server(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = library.current, other_version(1)
    await submit(store, "a")
    monkeypatch.setattr(library, "current", theirs)

    [claimed] = await claim(store)
    monkeypatch.setattr(library, "current", ours)

    assert await store.finish([ending(claimed)]) == [1]
    assert await libraries(store) == {ours.name, theirs.name}


async def test_a_library_unused_for_a_day_is_deleted_by_a_worker_of_another_version(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [other_version(n) for n in range(3)]
    for version in versions:
        monkeypatch.setattr(library, "current", version)
        await submit(store, version.name)
    now_s = int(time.time())
    await store.redis.hset("jk:libraries", versions[0].name, now_s - 90_000)
    await store.redis.hset("jk:libraries", versions[1].name, now_s - 90_000)
    monkeypatch.setattr(library, "current", versions[1])
    await store.renew("w1", {}, {})  # a worker of this version lives

    monkeypatch.setattr(library, "current", latest := other_version(3))
    await submit(store, "a")
    await library.delete_unused(store.redis)

    assert await libraries(store) == {versions[1].name, versions[2].name, latest.name}
    assert set(await store.redis.hkeys("jk:libraries")) == {versions[1].name.encode(), versions[2].name.encode()}


async def test_an_unrecorded_library_is_kept_for_a_day(store: RedisStore) -> None:
    await store.redis.function_load(other_version(1).text)

    await library.delete_unused(store.redis)

    assert other_version(1).name in await libraries(store)
    assert await store.redis.hexists("jk:libraries", other_version(1).name)


async def test_calls_that_are_sent_together_keep_their_order_when_the_library_is_missing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.redis.function_flush()
    last = AttemptNews("a", claimed.token, False, None, None, "", [LogLine("last words", 0)])

    answers, _, _ = await store.exchange([last], [ending(claimed)], (worker(), 1, 0, (), 0))

    assert answers == [1]
    assert [one.text for one in (await store.logs("a")).lines] == ["last words"]


async def test_threads_load_the_library_too(server: Server, store: RedisStore) -> None:
    direct = DirectSubmit(store.settings, "client")
    assert direct.submit(job("a")).created_ms
    await store.redis.function_flush()
    assert direct.submit(job("b")).created_ms
    await store.redis.function_flush()

    with open_blocking(store.settings) as client:
        assert run_blocking(client.execute_command, store.prefix, "prune", [b'{"limit":1}']) == 0
    direct.close()


async def test_a_server_that_closes_a_new_connection_at_once_is_an_error_and_no_wait() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while data := await reader.read(4096):
            writer.write(b"+OK\r\n" * len(re.findall(rb"(?m)^\*", data)))

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, Redis(port=server.sockets[0].getsockname()[1], protocol=2) as client:
        connection = await client.connection_pool.get_connection()
        writers[0].close()
        await until(connection._reader.at_eof, "its end")
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                await library._Replies(connection).of([("PING",)])
        await connection.disconnect()


async def test_a_full_server_without_the_library_says_so_in_one_sentence(store: RedisStore) -> None:
    await store.redis.config_set("maxmemory", 1)

    with pytest.raises(
        StoreUnavailable, match=r"memory limit \(maxmemory\) and cannot load jobkit's functions: raise it"
    ):
        await submit(store, "a")


async def test_a_failed_call_leaves_no_state_to_the_next(store: RedisStore) -> None:
    """Locals of the library live between calls. The list of jobs with due followers must be reset."""
    text = library.current.sources["lib/followers"]
    broken = text.replace(
        "  is_settling = true\n", "  is_settling = true\n  if id == 'a' then error({err = 'NOPERM by a test'}) end\n"
    )
    assert broken != text
    held, library.current = library.current, Library({**library.current.sources, "lib/followers": broken})
    try:
        await submit(store, "a", "b")
        await submit(store, "a2", needs=("a",))
        await submit(store, "b2", needs=("b",))
        one, other = await claim(store, free=2)
        with pytest.raises(StoreUnavailable, match="by a test"):
            await store.finish([ending(one)])

        assert await store.finish([ending(other)]) == [1]
        assert [found.spec.id for found in await claim(store)] == ["b2"]
    finally:
        library.current = held


async def test_jobs_without_a_record_are_removed_by_a_listing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.finish([ending(claimed)])
    await submit(store, "b")
    await store.redis.delete(f"{store.prefix}job:a")

    assert [found.id for found in (await store.list(Query())).jobs] == ["b"]
    assert (await store.counts())["succeeded"] == 0


async def test_every_verb_is_a_function_of_every_version(store: RedisStore) -> None:
    await submit(store, "a")
    [entry] = await store.redis.function_list()
    functions = dict(zip(entry[::2], entry[1::2], strict=True))[b"functions"]
    names = {dict(zip(f[::2], f[1::2], strict=True))[b"name"].decode() for f in functions}

    assert names == set(library.current.functions.values())
    assert all(name.startswith(f"{library.current.name}_") for name in names)


@pytest.mark.parametrize("path", sorted(library.current.sources))
def test_no_file_uses_a_name_that_does_not_exist(path: str) -> None:
    """Redis reports such a name only when the line runs."""
    text = re.sub(r"--[^\n]*", "", library.current.sources[path])
    text = re.sub(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", "''", text)
    known = {*LUA, *MODULES, *NAMES.findall(library.current.sources["lib/call"])}
    for made in (r"\blocal (?!function)([\w, ]+)", r"\bfor ([\w, ]+) (?:in|=)", r"\bfunction ?([\w.]*\([\w, .]*\))"):
        known |= set(NAMES.findall(" ".join(re.findall(made, text))))
    used = set(re.findall(r"(?<![\w.:])([A-Za-z_]\w*)(?=[\s.(\[,)=~+\-*/<>\n])", text))
    fields = set(re.findall(r"([A-Za-z_]\w*)\s*=(?!=)", text))  # key of a table literal

    assert used - known - fields == set()


NAMES = re.compile(r"[A-Za-z_]\w*")
MODULES = {path.removeprefix("lib/").capitalize() for path in library.current.sources if path.startswith("lib/")}
LUA = frozenset(
    NAMES.findall(
        """and break do else elseif end false for function if in local nil not or repeat return then true until while
        redis cjson math string table type pairs ipairs next pcall tonumber tostring unpack error LIBRARY"""
    )
)
