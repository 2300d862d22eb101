"""The background loop at the end of a program."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT

PROGRAM = """
import asyncio, threading, time
from jobkit.client.loop import background
from jobkit.runners import Runners

runners = Runners()

async def works_in_threads():
    while True:
        await asyncio.to_thread(time.sleep, 0.01)

async def start():
    runners.run(works_in_threads())

background.call(start())
threading.Thread(target=time.sleep, args=(0.5,)).start()  # the loop runs while the interpreter waits for it
"""


def test_work_that_the_end_of_a_program_cuts_off_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
