"""The one training toolkit: import its modules by name.

`schedules` and `options` need no torch; all others import it.
"""
