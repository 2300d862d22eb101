"""Fixtures of HTTP."""

from __future__ import annotations

from tests.http.conftest import _own_registry as _own_registry
from tests.http.conftest import guarded as guarded
from tests.http.conftest import http as http
from tests.http.conftest import kit as kit
from tests.http.conftest import redis_server as redis_server
from tests.http.conftest import serve as serve
from tests.http.conftest import site as site
from tests.http.conftest import stage as stage
