"""Draws an explored model: what flows where, as blocks that open."""
