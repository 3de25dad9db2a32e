"""A model with rules made in each way that there is: by `build`, and as the printed file makes it."""

import torch

import builder
from builder.config.folders import blocks, search_path
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml
from builder.model.build import construct
from builder.model.infer import explore
from builder.model.init_read import with_rules
from builder.model.read import read_definition
from builder.model.source import source
from builder.weights.init_report import init_report
from builder.weights.initialise import Touched


def definition_of(text, section=None):
    """The definition in a text of YAML, with the rules of a section `init`, if there is one."""
    document = parse_yaml(text, "m.yaml")
    definition = read_definition(document.value, Origins(document.origins), (), blocks(search_path()))
    return definition if section is None else with_rules(definition, section, Origins())


def built(text, seed=0, **args):
    """The model by `builder.build`, under a seed."""
    torch.manual_seed(seed)
    return builder.build(parse_yaml(text, "m.yaml").value, **args)


def printed(text, seed=0, data=None, section=None, **args):
    """The model as the printed file makes it under a seed, and that file's text."""
    definition = definition_of(text, section)
    code = source(definition, args, data or {}, explore(definition, args, data or {}))
    names = {"__name__": "printed"}
    exec(compile(code, "printed.py", "exec"), names)
    cls = [value for value in names.values() if isinstance(value, type) and value.__module__ == "printed"][-1]
    torch.manual_seed(seed)
    return cls(), code


def reported(text, data=None, section=None, device=None, **args):
    """The model with the report on its initial values."""
    definition, touched = definition_of(text, section), Touched()
    sizes = explore(definition, args, data or {}).sizes
    torch.manual_seed(0)
    model = construct(definition, args, data or {}, sizes, device, touched=touched)
    return model, init_report(model, touched)


def same(a, b):
    """The same keys in the same order with the same bits."""
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def same_as_by_hand(text, by_hand, **args):
    """`build` and the printed file make what the hand-written class makes under the same seed."""
    torch.manual_seed(3)
    expected = by_hand()
    state = torch.get_rng_state()
    same(built(text, 3, **args), expected)
    assert torch.equal(torch.get_rng_state(), state), "as many random numbers as by hand"
    model, code = printed(text, 3, **args)
    same(model, expected)
    return code
