"""Weights that others trained, by the naming of their files."""
