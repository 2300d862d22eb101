"""Metadata hook of the build: the dependencies for this system, and a README whose links lead somewhere from anywhere.

No environment marker tells glibc from musl, and on musl (Alpine) pip would compile the server from its sources and then
refuse the result. There `apk add valkey` installs one.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Metadata(MetadataHookInterface):
    """Fill `dependencies` from `[tool.hatch.metadata.hooks.custom]` in pyproject.toml, and `readme` from README.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        is_musl = "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")
        metadata["dependencies"] = [*self.config["dependencies"], *([] if is_musl else self.config["server"])]
        at = f"{metadata['urls']['Source']}/{{}}/v{metadata['version']}/"
        text = (Path(self.root) / "README.md").read_text("utf-8")
        text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)", rf"\1{at.format('raw')}", text)
        text = re.sub(r"(\]\()(?!\w+:|#)", rf"\1{at.format('blob')}", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
