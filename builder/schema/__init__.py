"""The config as a JSON Schema (2020-12), from what the registries and the sections say: for editors that complete."""
