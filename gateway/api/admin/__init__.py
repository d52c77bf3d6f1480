"""Admin routes: every one requires a key whose role is `admin`."""
