"""What a policy that is not in force would have done on logged requests, and what can be said of its worth.

`rows` reads the ledger, `replay` decides anew by the code that decides, `findings` says what changes and estimates,
`store` keeps what was found, `jobs` runs it beside the gateway in a process of its own.
"""
