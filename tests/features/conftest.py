"""Fixtures of other rooms that tests of features use."""

from __future__ import annotations

from tests.cli.conftest import terminal as terminal
from tests.client.conftest import by_events_alone as by_events_alone
from tests.client.conftest import kit as kit
from tests.client.conftest import place as place
from tests.client.conftest import queued as queued
from tests.store.conftest import heard as heard
from tests.store.conftest import hub as hub
from tests.store.conftest import lease_s as lease_s
from tests.store.conftest import redis_url as redis_url
from tests.store.conftest import store as store
from tests.ui.conftest import browser as browser
from tests.ui.conftest import look as look
from tests.ui.conftest import serve as serve
from tests.ui.conftest import stage as stage
from tests.ui.conftest import url as url
from tests.ui.conftest import window as window
from tests.worker.conftest import bench as bench
from tests.worker.conftest import other as other
from tests.worker.conftest import shared_server as shared_server
from tests.worker.conftest import sharing as sharing
