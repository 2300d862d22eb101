"""The timeline: one bar per attempt, and charts of queues and load."""
