"""Hostile clients against a real server process. `python -m tests.hostile` runs the full sizes and writes a page."""
