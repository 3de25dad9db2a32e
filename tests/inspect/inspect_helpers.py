"""Models to look at, from the text of their YAML."""

import textwrap

from builder.config.folders import blocks, search_path, shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml, read_yaml
from builder.inspect.summary import summarise, walk
from builder.model.infer import explore
from builder.model.read import read_definition


def explored(text, given=None, data=None, examples=None):
    """Definition and exploration of a model."""
    document = parse_yaml(textwrap.dedent(text), "model.yaml")
    return _explored(document, "Model", given or {}, data or {}, examples)


def shipped(name, given=None, data=None, examples=None):
    """Definition and exploration of a shipped model."""
    return _explored(read_yaml(shipped_configs() / f"model/{name}.yaml"), name, given or {}, data or {}, examples)


def _explored(document, name, given, data, examples):
    definition = read_definition(document.value, Origins(document.origins), (), blocks(search_path()), name)
    return definition, explore(definition, given, data, examples)


def summary_of(text, batch=None, **more):
    """The summary of a model."""
    return summarise(*explored(text, **more), batch=batch)


def rows_of(summary):
    """Its rows by path."""
    return {row.path: row for row, _ in walk(summary.root)}
