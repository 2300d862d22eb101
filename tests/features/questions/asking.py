"""Jobs that ask."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Literal

import jobkit


@dataclass
class Cut:
    """Parameters of a cut.

    Args:
        noise: number of the cluster that is noise
    """

    noise: Annotated[int, jobkit.Range(0, 9)]
    side: Literal["left", "right"] = "left"

    def __post_init__(self) -> None:
        if self.noise == 7:
            raise ValueError("cluster 7 is the largest one")


def note(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def cut(path: str) -> Cut:
    note(path, f"start {os.getpid()}")
    return jobkit.ask(Cut, "Which of these clusters is noise?", show=[[1, 2], [3, 4]], timeout="2d")


async def cut_async(path: str) -> Any:
    note(path, f"start {os.getpid()}")
    return await jobkit.ask.aio(Cut, "Which of these clusters is noise?")


def each(path: str, count: int) -> list[bool]:
    note(path, f"start {os.getpid()}")
    return [jobkit.ask(bool, "Keep it?") for _ in range(count)]


async def both() -> list[Any]:
    return list(await asyncio.gather(jobkit.ask.aio(str, "Your name?"), jobkit.ask.aio(["red", "blue"], "Colour?")))


def late() -> str:
    try:
        return str(jobkit.ask(bool, "Go on?", timeout=0.3))
    except TimeoutError as error:
        return f"{type(error).__name__}: {error}"


def wrong(text: str) -> Any:
    return jobkit.ask(bool, text)


def rounds(path: str, count: int, timeout: float | None = None) -> list[str]:
    """Ask once in each round, after a checkpoint."""
    state: dict[str, Any] = jobkit.resume({"round": 0, "answers": []})
    for n in range(state["round"], count):
        note(path, f"round {n}")
        jobkit.checkpoint({"round": n, "answers": state["answers"]})
        state["answers"].append(jobkit.ask(str, "What next?", timeout=timeout))
    return list(state["answers"])


def side_by_side(count: int) -> list[bool]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: jobkit.ask(bool, "Go on?", key="one"), range(count)))


def in_a_thread(path: str) -> list[str]:
    """Ask in a thread right after a checkpoint."""
    note(path, f"start {os.getpid()}")
    jobkit.checkpoint({"round": 0})
    answers: list[str] = []
    thread = Thread(target=lambda: answers.append(jobkit.ask(str, "What next?")))
    thread.start()
    thread.join()
    return answers


async def in_a_task(path: str) -> list[str]:
    """Ask in another asyncio task right after a checkpoint."""
    note(path, f"start {os.getpid()}")
    jobkit.checkpoint({"round": 0})
    answers: asyncio.Queue[str] = asyncio.Queue()

    async def ask() -> None:
        answers.put_nowait(await jobkit.ask.aio(str, "What next?"))

    asking = asyncio.create_task(ask())
    found = await answers.get()
    await asking
    return [found]


async def blocking() -> Any:
    return jobkit.ask(bool, "Go on?")
