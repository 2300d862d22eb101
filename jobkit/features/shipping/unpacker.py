"""Modules that came with a call, in the process of its job: imported before all others."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from jobkit.features.shipping.pack import is_here, unpacked
from jobkit.files.file_store import temporary
from jobkit.tasks.call import CallHead, content_of


def unpack(head: CallHead) -> None:
    """Use the modules of a call, unless they are here unchanged. Raises SignatureError or OSError."""
    if head.code is not None:
        content = content_of(head, head.code)
        if not is_here(content, head.path):
            use(unpacked(content, head.code.name, temporary() / f"jobkit-code-{os.getuid()}"))


def use(folder: Path) -> None:
    """Import from this folder first. Modules of the same names that come from elsewhere are imported anew."""
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    for module, found in list(sys.modules.items()):
        if module.partition(".")[0] in names and not str(getattr(found, "__file__", None) or "").startswith(
            str(folder)
        ):
            del sys.modules[module]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
