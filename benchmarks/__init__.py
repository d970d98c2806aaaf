"""Measures the time and memory of every method; see `__main__.py`."""
