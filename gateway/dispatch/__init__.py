"""From a decision to a reply: who is eligible, calling with fallback, health, metering."""
