"""One router kind a file; the file's stem is the kind's name in a policy."""
