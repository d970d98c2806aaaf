"""The loop: steps, their records, and checkpoints."""
