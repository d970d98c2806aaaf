"""What a network makes of the features of its backbone."""
