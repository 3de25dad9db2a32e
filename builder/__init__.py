"""Neural networks described whole in YAML, built as the `nn.Module` an expert would have written, and trained."""
