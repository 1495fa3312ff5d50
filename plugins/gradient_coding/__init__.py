"""Gradient coding: exact gradients from many workers without waiting for the slow ones.

`codes` says how partial gradients are combined and recovered, `schemes` who computes what in which
round and when a round may end.
"""
