"""Families of compressors: dense, TopK, QSGD, PowerSGD."""
