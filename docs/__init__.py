"""The documentation: pages, and in `generate` the code that makes others."""
