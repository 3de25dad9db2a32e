"""Hooks from the config: statistics of what flows, files of it, changed gradients, functions of users."""
