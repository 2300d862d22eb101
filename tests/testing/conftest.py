"""The fixtures that pytest finds by itself where jobkit is installed, also for a checkout that was installed before."""

from jobkit.testing import jobkit_kit as jobkit_kit
from jobkit.testing import jobkit_queue as jobkit_queue
