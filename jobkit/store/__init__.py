"""The store: keeps jobs, and is the only code that changes their state.

`redis` has the verbs for jobs and workers; `schedules`, `failures`, `finding` and `web` are its other parts. `library`
assembles the Redis Functions in `lua/`; `private` starts the server of `sync://`.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _LaterModule(ModuleType):
    """Stand-in for a module that is imported when something of it is used for the first time."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


# redis imports PyJWT for a login that we do not offer, and that imports cryptography: 10 MB and 0.1 s in each process.
if "jwt" not in sys.modules and (_spec := importlib.util.find_spec("jwt")) is not None:
    sys.modules["jwt"] = _LaterModule("jwt")
    sys.modules["jwt"].__spec__ = _spec
