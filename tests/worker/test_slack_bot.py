"""The Slack bot of `docs/recipes/slack-bot.md` runs as it is printed, against a stand-in of Slack's HTTP API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

import pytest
import yaml

import jobkit
from tests.docs.reading import blocks
from tests.support import wait_until
from tests.worker.conftest import Bench
from tests.worker.receiver import Receiver

slack_bolt = pytest.importorskip("slack_bolt")
slack_sdk = pytest.importorskip("slack_sdk")

PAGE = "docs/recipes/slack-bot.md"
(CODE,) = blocks(PAGE, "python")


class Slack(Receiver):
    """Context manager. `said`: messages that were posted to the channel, as (thread, text)."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.said = list[tuple[str, str]]()
        self.client = slack_sdk.WebClient(token="xoxb-of-tests", base_url=self.url.removesuffix("hook"))
        return self

    def reply(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        sent = json.loads(body) if "json" in headers["Content-Type"] else dict(parse_qsl(body.decode()))
        if path == "/chat.postMessage":
            assert sent["channel"] == "C1"
            self.said.append((sent["thread_ts"], sent["text"]))
        return 200, json.dumps({"ok": True, "user_id": "UBOT", "bot_id": "BBOT", "team_id": "T1"}).encode()


def mention(bot: dict[str, Any], words: str, ts: str) -> None:
    """Deliver `@jobs ...` as `SocketModeHandler` does."""
    event = {"type": "app_mention", "channel": "C1", "user": "U1", "text": f"<@UBOT> {words}", "ts": ts}
    body = {"type": "event_callback", "team_id": "T1", "event": event}
    assert bot["app"].dispatch(slack_bolt.BoltRequest(body=body, mode="socket_mode")).status == 200


def test_a_bot_submits_what_a_channel_asks_for_and_answers_in_the_thread_also_after_a_restart(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-of-tests")
    bench.worker()
    app, connect = slack_bolt.App, jobkit.connect

    @contextmanager
    def running() -> Iterator[dict[str, Any]]:
        """Run the bot in this process, from the start of its program until its connection is closed."""
        kit = connect(**bench.place)
        monkeypatch.setattr(jobkit, "connect", lambda: kit)
        monkeypatch.setattr(slack_bolt, "App", lambda token: app(client=slack.client))
        bot: dict[str, Any] = {"__name__": "bot"}
        exec(CODE, bot)
        bot["TASKS"].append("until")

        def answer() -> None:
            with suppress(jobkit.JobkitError, RuntimeError):  # the kit was closed
                bot["answer"]()

        answering = threading.Thread(target=answer)
        answering.start()
        yield bot
        kit.close()
        answering.join(30)

    with Slack() as slack:
        with running() as bot:
            mention(bot, "", "1")
            mention(bot, "until sing=<!channel>", "2")
            for _ in range(2):  # Slack has repeated it
                mention(bot, f"until path={bench.file()} sign={bench.file('sign')}", "3")
            wait_until(lambda: len(slack.said) == 4, what="four answers")
            bench.started()
        Path(bench.file("sign")).touch()
        (job,) = bench.kit.jobs()
        job.wait(30)
        with running():
            wait_until(lambda: len(slack.said) == 5, what="the answer about the end")

    assert dict(slack.said[:2]) == {
        "1": "I start estimate_pi, until: write its name, and arguments like n=5",
        "2": "unexpected argument 'sing' (did you mean 'sign'?); the parameters are: path, sign",
    }
    assert slack.said[-1] == ("3", f"job {job.id[:8]} succeeded: done")


def test_the_manifest_of_the_app_allows_what_the_bot_does() -> None:
    manifest = yaml.safe_load(blocks(PAGE, "yaml")[0])
    scopes = manifest["oauth_config"]["scopes"]["bot"]

    assert manifest["settings"]["socket_mode_enabled"] is True
    assert manifest["settings"]["event_subscriptions"]["bot_events"] == re.findall(r'@app\.event\("(\w+)"\)', CODE)
    assert scopes == ["app_mentions:read", "chat:write"]
    assert "chat_postMessage" in CODE
