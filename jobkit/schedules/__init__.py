"""Timing of schedules: cron lines, time zones, missed and overlapping slots, and their description in words.

Decides, but does not act: the store keeps schedules, workers fire them.
"""

from jobkit.schedules.timing import Timing, checked_cron, checked_zone, timing
from jobkit.schedules.words import lateness, moments, sentence

__all__ = ["Timing", "checked_cron", "checked_zone", "lateness", "moments", "sentence", "timing"]
