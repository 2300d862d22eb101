"""The form of a task: fields from its parameters, and what they submit."""
