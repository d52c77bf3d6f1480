"""The gateway: the only folder that does network, SQL or Redis."""
