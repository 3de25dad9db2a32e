"""Looks at a model that was explored: its layers, shapes, cost and memory."""
