"""A project of one's own to begin with: the files that `builder new` writes."""
