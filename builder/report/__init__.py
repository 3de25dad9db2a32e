"""Pages about runs: one file each, that fetches nothing and runs no script but its own. Knows no torch."""
