"""Who may ask: virtual keys."""
