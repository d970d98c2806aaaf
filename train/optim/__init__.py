"""The base optimizer and the method, from the config."""
