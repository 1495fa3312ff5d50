"""Stragglers: the patterns that schemes are made for, and delays made up or measured."""

from __future__ import annotations

from .models import Arbitrary, Bursty, BurstyOrPerRound, Model, Pattern, PerRound, Window

__all__ = ["Arbitrary", "Bursty", "BurstyOrPerRound", "Model", "Pattern", "PerRound", "Window"]
