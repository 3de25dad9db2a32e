"""From YAML files and overrides to one checked config in which every value knows where it was written."""
