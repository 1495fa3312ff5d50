"""The front door: the command `orchestrate`."""
