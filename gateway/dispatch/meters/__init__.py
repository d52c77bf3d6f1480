"""What replies are worth: one meter a dialect, found by the name of its file."""
