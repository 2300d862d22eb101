"""Tasks: how functions and classes become jobs. Parameters from signatures, options, names, and the call in a payload.

Knows neither Redis nor a worker nor a page.
"""
