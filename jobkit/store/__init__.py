"""The store: keeps jobs, and is the only code that changes their state.

`redis` has the verbs for jobs; `queues`, `contents` and `web` are its other parts, and features add theirs. `hub`
receives events. `library` assembles the Redis Functions in `lua/` and in the folders of features.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any

# redis imports PyJWT for a login that we do not offer, and that imports most of cryptography: 10 MB and 0.1 s in each
# process. So a stand-in loads PyJWT when something of it is used for the first time. `importlib.util.LazyLoader` does
# not help: the import statement itself reads `__spec__`, and its modules load at any access.
if "jwt" not in sys.modules and (_spec := importlib.util.find_spec("jwt")) is not None:
    _stand_in = ModuleType("jwt")

    def _load(name: str) -> Any:
        if sys.modules.get("jwt") is _stand_in:
            del sys.modules["jwt"]
        return getattr(importlib.import_module("jwt"), name)

    vars(_stand_in).update(__spec__=_spec, __getattr__=_load)
    sys.modules["jwt"] = _stand_in
