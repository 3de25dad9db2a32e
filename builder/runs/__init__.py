"""Run folders: opened before training, written durably, sealed after it, and found again. Knows no torch."""
