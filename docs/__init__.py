"""The documentation: its pages, and in `generate` the code that makes others."""
