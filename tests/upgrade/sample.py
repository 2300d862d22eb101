"""Records of each version as files: `python -m tests.upgrade.sample` writes the file of this version.

A file has all keys of a namespace with ended, running and waiting jobs of each kind, and the version's own reading of
them. Files of released versions are never changed.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import redis

import jobkit
from jobkit.client.kit import Kit

FOLDER = Path(__file__).parent
NAMESPACE, SECRET = "upgrade", "of the upgrade tests"
PREFIX = f"jk:{NAMESPACE}:"


@jobkit.task(title="Adds", tags=["kept"])
def add(a: int, b: int = 2) -> int:
    print("adding", a, "and", b)
    jobkit.current().report(1, 2, "half")
    if a < 0:
        raise ValueError("negative a")
    return a + b


def dump(client: redis.Redis) -> dict[str, Any]:
    """Return type, value and expiry of every key of the namespace."""
    kept: dict[str, Any] = {}
    for key in sorted(client.scan_iter(f"{PREFIX}*", count=1000)):
        kind = client.type(key).decode()
        read: Any = {
            "string": lambda k: _text(client.get(k)),
            "hash": lambda k: {_text(name): _text(value) for name, value in client.hgetall(k).items()},
            "zset": lambda k: [[_text(name), score] for name, score in client.zrange(k, 0, -1, withscores=True)],
            "set": lambda k: sorted(map(_text, client.smembers(k))),
            "stream": lambda k: [
                [_text(id), {_text(name): _text(value) for name, value in entry.items()}]
                for id, entry in client.xrange(k)
            ],
        }[kind]
        kept[key.decode().removeprefix(PREFIX)] = {"type": kind, "value": read(key), "expires": client.pttl(key) > 0}
    return kept


def load(client: redis.Redis, kept: dict[str, Any]) -> None:
    """Restore a dump."""
    for name, entry in kept.items():
        key, value = PREFIX + name, entry["value"]
        if entry["type"] == "string":
            client.set(key, _bytes(value))
        elif entry["type"] == "hash":
            client.hset(key, mapping={_bytes(field): _bytes(one) for field, one in value.items()})
        elif entry["type"] == "zset":
            client.zadd(key, {_bytes(member): score for member, score in value})
        elif entry["type"] == "set":
            client.sadd(key, *map(_bytes, value))
        else:
            for id, fields in value:
                client.xadd(key, {_bytes(field): _bytes(one) for field, one in fields.items()}, id=_bytes(id))
        if entry["expires"]:
            client.pexpire(key, 3_600_000)


def facts(kit: Kit) -> dict[str, Any]:
    """Return what this version reads of every job: JSON of CLI and HTTP, events, log, preview."""
    return {
        job.id: {
            "json": job.snapshot.to_json(),
            "events": [[event.seq, str(event.type)] for event in job.snapshot.history],
            "log": [line.text for line in kit.logs(job.id)],
            "preview": kit.preview(job.id),
        }
        for job in kit.jobs(limit=1000)
    }


def _text(raw: bytes) -> str:
    """Return valid UTF-8 as text, otherwise base64."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()


def main() -> None:
    """Write the file of this version."""
    import contextlib
    import subprocess
    import sys

    from tests.store.server import Server
    from tests.support import environment, wait_until

    server = Server()
    server.start()
    place = {"url": server.url, "namespace": NAMESPACE, "secret": SECRET}
    names = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
    command = [sys.executable, "-m", "jobkit", "worker", "-t", "tests.upgrade.sample", "-t", "tests.worker.jobs"]
    worker = subprocess.Popen(command, env=environment(**names))
    try:
        with jobkit.connect(**place) as kit, redis.Redis.from_url(server.url) as client:
            from tests.upgrade.sample import add as known  # by its name in a module, not in `__main__`

            kit.options(key="kept", tags=["kept"]).submit(known, 1).result(60)
            kit.options(retries=1, backoff=0.01).submit(known, -1).wait(60)
            running = kit.submit("until", path="/tmp/nothing", sign="/nowhere")
            wait_until(lambda: running.state == "running", what="a job to run")
            worker.kill()
            worker.wait()
            kit.submit(known, 5)
            kit.options(delay=1_000_000, priority=3).submit(known, 6)
            kit.submit(known, 7).cancel("not needed")
            found = {"version": jobkit.__version__, "facts": facts(kit), "keys": dump(client)}
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
            worker.wait()
        server.stop()
    path = FOLDER / f"records-{jobkit.__version__}.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(path)


if __name__ == "__main__":
    main()
