"""The tasks that a model is trained for."""
