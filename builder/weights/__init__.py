"""Weights: how they begin, where they come from, and which of them stay as they are."""
