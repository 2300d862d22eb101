"""What a person sees: the job card, the table, the form, the pages, and the words and numbers on them.

Nothing is imported here, so that the pure modules (`format`, `trace`, `feed`, `static`) serve the command line and a
notebook without loading panel.
"""
