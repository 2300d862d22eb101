"""The server's own time for a submit, a claim, a finish and a job of a `map`, beside those of an earlier revision.

    python -m benchmarks.server_time REVISION [--server PROGRAM] [--rounds N]

Both versions work on one server by turns, each in a separate process and namespace; the figures come from INFO
commandstats (of EVALSHA or FCALL), so neither clients nor sockets count, only how busy the machine is. A job of a `map`
goes through submit (in parts of 200), claim and finish (one or four in a call) and delete; its commands are counted,
too. Not among the benchmarks that `make bench` runs: it needs the repository's history.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VERBS = ("submit", "claim", "finish")
JOBS = 500

#: Of a `map`: jobs in a part of its submit, and jobs that a claim or a finish is for.
PART, AT_ONCE = 200, (1, 4)


async def rounds(url: str) -> None:
    """Run a round for each line of standard input; print microseconds a call by verb. In a process of one version."""
    from jobkit.model import JobSpec
    from jobkit.model.batch import BatchSpec
    from jobkit.settings import Settings
    from jobkit.store.redis import RedisStore
    from jobkit.store.values import Claimed, Ending, Submission, WorkerInfo

    store = RedisStore(Settings(url=url, namespace=f"b{os.getpid()}").checked())
    worker, claimed = WorkerInfo("w1", slots=1), list[Claimed]()

    async def submit(n: int) -> None:
        spec = JobSpec(secrets.token_hex(8), "tasks.simulate", params={"n": n, "method": "rk4"}, owner="ada")
        await store.submit([Submission(spec, b"x" * 200)], "client")

    async def claim(n: int) -> None:
        found, _ = await store.claim(worker, 1)
        claimed.extend(found)

    async def finish(n: int) -> None:
        one = claimed.pop()
        await store.finish(
            [Ending(one.spec.id, one.token, "succeeded", result=b"x" * 60, preview=b"y" * 60, summary="1.5")]
        )

    async def map_jobs(at_once: int) -> None:
        ids = [secrets.token_hex(8) for _ in range(2 * PART)]
        batch = secrets.token_hex(8)
        specs = [JobSpec(id, "tasks.simulate", params={"n": 1}, owner="ada", batch=batch) for id in ids]
        for start in range(0, len(ids), PART):
            part = [Submission(spec, b"x" * 200) for spec in specs[start : start + PART]]
            await store.submit(part, "client", BatchSpec(batch, "tasks.simulate", len(ids)), start)
        for _ in range(0, len(ids), at_once):
            found, _ = await store.claim(worker, at_once)
            await store.finish([Ending(one.spec.id, one.token, "succeeded", result=b"x" * 60) for one in found])
        await store.delete(ids)

    async def spent() -> tuple[int, int]:
        stats = await store.redis.info("commandstats")
        found = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_fcall") if name in stats]
        return sum(each["usec"] for each in found), sum(each["calls"] for each in found)

    async def commands() -> int:
        return sum(each["calls"] for each in (await store.redis.info("commandstats")).values())

    await store.renew("w1", {}, {})
    for _ in sys.stdin:
        took = {}
        for verb in (submit, claim, finish):
            before_us, before = await spent()
            for n in range(JOBS):
                await verb(n)
            after_us, after = await spent()
            took[verb.__name__] = (after_us - before_us) / (after - before)
        for at_once in AT_ONCE:
            before_us, before = (await spent())[0], await commands()
            await map_jobs(at_once)
            took[f"map {at_once}"] = ((await spent())[0] - before_us) / (2 * PART)
            took[f"map {at_once} commands"] = (await commands() - before) / (2 * PART)
        print(json.dumps(took), flush=True)
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_time", description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--server", default="redis-server")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as home:
        earlier = Path(home) / "earlier"
        earlier.mkdir()
        archive = subprocess.run(
            ["git", "archive", given.revision, "jobkit"], cwd=root, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", earlier], input=archive.stdout, check=True)
        socket = f"{home}/r.sock"
        options = ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", home, "--logfile", "log"]
        server = subprocess.Popen([given.server, *options])
        try:
            while not os.path.exists(socket):
                time.sleep(0.01)
            sides = [_side(path, f"unix://{socket}") for path in (earlier, root)]
            took = [[_round(side) for side in sides] for _ in range(given.rounds + 1)][1:]  # the first warms up
            for side in sides:
                side.communicate()
        finally:
            server.terminate()
            server.wait()
    print("| verb | before, lowest | now, lowest | ratio | ratio of each round, median | range |\n|" + " --- |" * 6)
    several = {"claim + finish": ("claim", "finish")}
    for n in AT_ONCE:
        several |= {
            f"a job of a map, {n} in a call": (f"map {n}",),
            f"its commands, {n} in a call": (f"map {n} commands",),
        }
    for name, verbs in ({verb: (verb,) for verb in VERBS} | several).items():
        pairs = [[sum(side[verb] for verb in verbs) for side in both] for both in took]
        before, now = (min(pair[i] for pair in pairs) for i in (0, 1))
        ratios = sorted(new / old for old, new in pairs)
        unit = "" if "commands" in name else " µs"
        print(
            f"| {name} | {before:.1f}{unit} | {now:.1f}{unit} | {now / before:.2f} | {statistics.median(ratios):.2f} | "
            f"{ratios[0]:.2f} – {ratios[-1]:.2f} |"
        )


def _side(path: Path, url: str) -> subprocess.Popen[str]:
    code = f"import asyncio, runpy; asyncio.run(runpy.run_path({__file__!r})['rounds']({url!r}))"
    env = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _round(side: subprocess.Popen[str]) -> dict[str, float]:
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write("\n")
    side.stdin.flush()
    found: dict[str, float] = json.loads(side.stdout.readline())
    return found


if __name__ == "__main__":
    main()
