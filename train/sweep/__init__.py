"""Many runs: several methods, seeds and values of a key."""
