"""The leak checks: a thread or open file that a test leaves behind is named."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from tests.leaks import Before


def test_a_thread_that_still_runs_is_named() -> None:
    before, over = Before(), threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()

    assert before.left() == "thread forgotten;"
    over.set()
    thread.join()
    assert before.left() == ""


def test_a_connection_to_a_server_is_named_and_a_pair_of_sockets_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        before = Before()
        pair, client = socket.socketpair(), socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))

        assert before.left() == f"descriptor {client.fileno()} (connection to {tmp_path / 's'});"

        between = Before()
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(str(tmp_path / "s"))
            assert between.left() == ""  # of a kit that had one before the test
        client.close()
        assert before.left() == ""
    for one in pair:
        one.close()


def test_an_open_file_and_a_pipe_are_named() -> None:
    before = Before()
    opened = [*os.pipe(), os.open(__file__, os.O_RDONLY)]

    left = before.left()

    assert [f"descriptor {fd} " in left for fd in opened] == [True] * 3
    for fd in opened:
        os.close(fd)
    assert before.left() == ""
