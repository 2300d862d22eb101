"""Real workers, and a Redis that an attacker may write to."""

from __future__ import annotations

from tests.worker.conftest import bench, own_bench, shared_server

__all__ = ["bench", "own_bench", "shared_server"]
