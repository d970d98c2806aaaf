"""Data sets: in memory, or streamed from disk."""
