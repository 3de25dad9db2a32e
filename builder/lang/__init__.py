"""The two languages of a config, formulas (`=expr`) and `forward`: allow-lists over Python's syntax. Knows no torch."""
