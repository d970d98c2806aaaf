"""What the methods cost, in time and memory; see `benchmarks/__main__.py`."""
