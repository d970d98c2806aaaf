"""Counts what a step sends between devices, from its compiled HLO.

`communication.py` is the command; nothing in this folder is timed.
"""
