"""From an `nn.Module` in Python to its definition in YAML: a text to start from."""
