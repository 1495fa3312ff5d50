"""The built-in plugins, one folder a method, found through the same entry points as a stranger's."""
