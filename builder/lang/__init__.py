"""The two languages of a config: formulas (`=expr`) and `forward`. Both are allow-lists over Python's syntax; neither knows torch."""
