"""Timing of schedules: cron lines, time zones, missed and overlapping slots, and their description in words.

Decides, but does not act: the store keeps schedules, workers fire them.
"""
