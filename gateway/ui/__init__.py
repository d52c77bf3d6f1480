"""The admin console: pages rendered here, for browsers; every act goes the way of the JSON routes for admins.

A page is one module in `pages` (its routes and what it shows), one template, and one entry in `menu`. It gets its
visitor from `doors` (a viewer may look, an editor change policies and cache, an admin everything), renders by
`page` and never writes a table by itself.
"""
