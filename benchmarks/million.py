"""A page of the dashboard's jobs where a million are kept: filling the index, each kind of search and order, memory.

The store is filled by a script that copies records which were made by the real transitions, with other ids, times,
arguments, owners and endings; `tests/features/search/test_bulk.py` holds its records against real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import psutil

from benchmarks.place import Place
from benchmarks.table import Row, most, percentile, row
from jobkit.attempts import preview_subject
from jobkit.codec import RAW, Codec
from jobkit.features.search.index import Index
from jobkit.model import ErrorKind, JobSpec
from jobkit.model.snapshot import JobError
from jobkit.settings import Settings
from jobkit.store.grammar import parse
from jobkit.store.hub import EventHub
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Ending, Submission, WorkerInfo

#: Copies a template's keys to `count` jobs. KEYS[1] is the prefix. ARGV: template id, first number, count, newest us, step
#: in us, jobs in all, ttl in ms. What is taken from `VARIED` differs by the number, so that a search finds few or many.
_COPY = """
local P, from, first, count = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local newest, step, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local flat = redis.call('HGETALL', P .. 'job:' .. from)
local args, result, preview = redis.call('GET', P .. 'args:' .. from), redis.call('GET', P .. 'result:' .. from),
  redis.call('GET', P .. 'preview:' .. from)
local group = redis.call('HGET', P .. 'failed', from)
local base = {}
for i = 1, #flat, 2 do base[flat[i]] = flat[i + 1] end
local owners = {'ada', 'bob', 'cy', 'dee', 'eve', 'fay', 'gil', 'hal'}
local methods = {'adam', 'sgd', 'lbfgs', 'rmsprop'}
local function plain(text) return (string.gsub(text, '[%-%.%+%[%]%(%)%$%^%%%?%*]', '%%%0')) end
local from_pattern, worker_pattern = plain(from), base.worker and plain(base.worker)
for n = first, first + count - 1 do
  local us = newest - n * step
  local ms = math.floor(us / 1000)
  local id = string.sub(redis.sha1hex(tostring(n)), 1, 16)
  local worker = 'gpu-' .. (n % 12) .. '.' .. (4000 + n % 12) .. '.abcdef'
  local took = 100 + (n * 7919) % 600000
  local submitted, started, finished = string.format('%.0f', ms), string.format('%.0f', ms + 50), string.format('%.0f', ms + 50 + took)
  local times = {submitted = submitted, started = started, finished = finished, at = submitted}
  local move = function(text)
    if #text < 10 then return text end
    text = string.gsub(text, from_pattern, id)
    if worker_pattern then text = string.gsub(text, worker_pattern, worker) end
    return (string.gsub(text, '"(%a+)":%d+', function(name) return times[name] and '"' .. name .. '":' .. times[name] end))
  end
  local set = {}
  for name, value in pairs(base) do
    if name == 'us' then value = string.format('%.0f', us)
    elseif times[name] then value = times[name]
    elseif name == 'worker' then value = worker
    elseif name == 'spec' then
      value = move(value)
      value = string.gsub(value, '"seed":%d+', '"seed":' .. n)
      value = string.gsub(value, '"lr":[%d.]+', '"lr":' .. string.format('%.4f', 0.0001 * (1 + n % 997)))
      value = string.gsub(value, '"method":"%a+"', '"method":"' .. methods[n % 4 + 1] .. '"')
      value = string.gsub(value, '"owner":"%a+"', '"owner":"' .. owners[n % 8 + 1] .. '"')
    else value = move(value) end
    set[#set + 1], set[#set + 2] = name, value
  end
  redis.call('HSET', P .. 'job:' .. id, unpack(set))
  redis.call('SET', P .. 'args:' .. id, args)
  redis.call('ZADD', P .. 'jobs', us, id)
  redis.call('ZADD', P .. 'state:' .. base.state, us, id)
  if base.finished then
    if result then redis.call('SET', P .. 'result:' .. id, result, 'PX', ttl) end
    if preview then redis.call('SET', P .. 'preview:' .. id, preview, 'PX', ttl) end
    redis.call('ZADD', P .. 'expiry', ms + ttl, id)
    redis.call('PEXPIRE', P .. 'job:' .. id, ttl)
    redis.call('PEXPIRE', P .. 'args:' .. id, ttl)
    if group then
      redis.call('ZADD', P .. 'failed:' .. group, us, id)
      redis.call('HSET', P .. 'failed', id, group)
    end
  else
    redis.call('ZADD', P .. 'ready:' .. base.queue, us, id)
  end
end
return count
"""

#: One in how many jobs ends so; the rest succeed.
ENDINGS = {"failed": 20, "cancelled": 50, "queued": 90}

#: What is searched: name, search text, order.
SEARCHES = (
    ("newest", "", ""),
    ("failed", "state:failed", ""),
    ("one owner", "owner:ada", ""),
    ("task and state", "task:train state:failed", ""),
    ("one worker", "worker:gpu-3", ""),
    ("one tag", "tag:nightly", ""),
    ("tag and owner", "tag:nightly owner:bob", ""),
    ("error", "error:KeyError", ""),
    ("age", "age:<1h", ""),
    ("age and state", "older:2d state:failed", ""),
    ("took long", "took:>9m", ""),
    ("pattern", "task:tr* owner:cy", ""),
    ("common text", "adam", ""),
    ("rare text", "seed=123456", ""),
    ("no such text", "no such text at all", ""),
    ("two texts", "adam lr=0.0997", ""),
    ("text of a message", "epoch", ""),
    ("text of an error", "no column", ""),
    ("text and state", "lbfgs state:failed", ""),
    ("two letters", "ad", ""),
    ("longest", "", "-took"),
    ("shortest", "", "took"),
    ("oldest", "", "submitted"),
    ("by task", "", "task"),
    ("by worker", "", "-worker"),
    ("by state", "", "state"),
    ("last ended", "", "-finished"),
    ("failed, longest", "state:failed", "-took"),
    ("common text, longest", "adam", "-took"),
    ("owner, longest", "owner:ada task:train", "-took"),
)


async def fill(store: RedisStore, count: int, span_s: float = 604_800.0) -> None:
    """Keep `count` jobs, submitted over the last `span_s` seconds."""
    made = {ending: await template(store, ending) for ending in ("succeeded", *ENDINGS)}
    prefix = store.prefix
    copy = store.redis.register_script(_COPY)
    newest = await store.now_ms() * 1000 - 60_000_000
    step = max(1, int(span_s * 1e6 / max(1, count)))
    ttl_ms = 7 * 86_400_000
    for first in range(0, count, 500):
        some = min(500, count - first)
        for part in range(first, first + some, 20):
            ending = next(
                (name for name, every in reversed(ENDINGS.items()) if part // 20 % every == every // 2), "succeeded"
            )
            await copy([prefix], [made[ending], part, min(20, count - part), newest, step, ttl_ms])
    for job_id in made.values():
        await store.cancel([job_id])
        await store.delete([job_id])


async def template(store: RedisStore, ending: str, name: str = "template") -> str:
    """A job that came to its end by the real transitions."""
    job_id = f"{name}-{ending}"
    spec = JobSpec(
        id=job_id,
        task="train" if ending != "cancelled" else "score",
        title="Train a model",
        params={"lr": 0.003, "seed": 22, "method": "adam", "data": "s3://bucket/train.parquet"},
        owner="ada",
        tags=("nightly",) if ending == "failed" else (),
    )
    await store.submit([Submission(spec, b"p" * 200)])
    if ending == "queued":
        return job_id
    if ending == "cancelled":
        await store.cancel([job_id], "not needed")
        return job_id
    [claimed], _ = await store.claim(WorkerInfo("template-worker"), 1)
    await store.progress([AttemptNews(job_id, claimed.token, True, 10, 10, "epoch 10")])
    if ending == "succeeded":
        preview = Codec().seal(RAW, b'{"type":"float","text":"0.93"}', preview_subject(job_id))
        end = Ending(
            job_id, claimed.token, ending, result=b"r" * 60, preview=preview, summary="0.93", usage={"cpu_s": 1}
        )
    else:
        error = JobError(ErrorKind.EXCEPTION, "KeyError", "no column f1", "Traceback\n" * 20, "train.py:28 in evaluate")
        end = Ending(job_id, claimed.token, ending, error=error, usage={"cpu_s": 1})
    await store.finish([end])
    await store.leave("template-worker")
    return job_id


def measure(place: Place) -> list[Row]:
    place.flush()
    return asyncio.run(_measure(place, int(os.environ.get("BENCH_JOBS", 0)) or place.pick(1_000_000, 20_000)))


async def _measure(place: Place, count: int) -> list[Row]:
    store = RedisStore(Settings(url=place.url).checked())
    hub = EventHub(store)
    began = time.monotonic()
    await fill(store, count)
    print(f"million: {count:,} jobs filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    await hub.start()
    me = psutil.Process()
    before_mb = me.memory_info().rss / 1e6
    index = Index(store, hub)
    began, cpu = time.monotonic(), sum(me.cpu_times()[:2])
    first = await index.page(Query(owner="ada"))
    rows = [
        row("first page while the index is filled", "jobkit", [(time.monotonic() - began) * 1000], "ms"),
    ]
    assert first.jobs
    await index.whole()
    name = f"index of {count:,} jobs"
    rows += [
        row(f"{name}: to fill it", "jobkit", [time.monotonic() - began], "s"),
        row(f"{name}: CPU to fill it", "jobkit", [sum(me.cpu_times()[:2]) - cpu], "s"),
    ]
    everything: list[float] = []
    cpu = sum(me.cpu_times()[:2])
    for title, text, order in SEARCHES:
        before = sum(me.cpu_times()[:2])
        times = await _times(index, parse(text, Query(order=order)), place.pick(20, 5))
        spent = (sum(me.cpu_times()[:2]) - before) * 1000 / len(times)
        everything += times
        rows.append(row(f"page: {title}, p50", "jobkit", [percentile(times, 0.5)], "ms"))
        rows.append(row(f"page: {title}, CPU", "jobkit", [spent], "ms"))
        rows.append(most(f"page: {title}, p95", [percentile(times, 0.95)], "ms", 150))
    rows.append(most(f"page of {count:,} jobs, all kinds, p95", [percentile(everything, 0.95)], "ms", 150))
    rows.append(
        row("page: CPU of the server, mean", "jobkit", [(sum(me.cpu_times()[:2]) - cpu) * 1000 / len(everything)], "ms")
    )
    rows.append(most(f"{name}: memory that it adds", [me.memory_info().rss / 1e6 - before_mb], "MB", 150))
    await index.close()
    await hub.close()
    await store.close()
    return rows


async def _times(index: Index, query: Query, rounds: int) -> list[float]:
    """Milliseconds of the first pages and of those that follow, in turn."""
    times: list[float] = []
    at: Any = query
    for _ in range(rounds):
        began = time.perf_counter()
        page = await index.page(at)
        times.append((time.perf_counter() - began) * 1000)
        at = Query(**{**{f: getattr(query, f) for f in Query.__struct_fields__}, "cursor": page.next_cursor})
    return times


if __name__ == "__main__":
    from benchmarks.place import private_redis
    from benchmarks.table import as_text

    with private_redis() as (url, folder):
        found = measure(Place(url, folder, "--quick" in sys.argv, {}))
        print(as_text(found))
        print(json.dumps({each.figure: each.value for each in found}), file=sys.stderr)
