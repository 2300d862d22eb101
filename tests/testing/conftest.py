"""The fixtures that users get by `pytest_plugins = ["jobkit.testing"]`, which is allowed only in a root conftest."""

from jobkit.testing import jobkit_kit as jobkit_kit
from jobkit.testing import jobkit_queue as jobkit_queue
