"""Schedules: their next runs, their last runs, and the form."""
