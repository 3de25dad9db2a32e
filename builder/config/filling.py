"""Fills in groups that a defaults list left open: what Hydra made of it is changed there, and not made anew.

To walk through the lists takes most of a composition. The parts of Hydra that this needs aren't public; a test compares
the outcome with a walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hydra._internal.defaults_list import _tree_to_list
from hydra.core.default_element import DefaultsTreeNode, GroupDefault

from builder.config.defaults_list import DefaultsList, Repository, read_off
from builder.config.hydra_rules import hydra_rules
from builder.errors import ConfigError


def filled(listed: DefaultsList, choices: Mapping[str, str], repository: Repository) -> DefaultsList | None:
    """The list with these choices for groups that are open in it, as if overrides had made them; `listed` is used up.

    None if it takes a walk: a choice has a defaults list of its own, or is referred to by another one, or its group
    stands in the lists more than once, or was left open by an override.

    Raises:
        ConfigError: a file is wrong.
    """
    overrides, tree = listed.hydras.overrides, listed.hydras.defaults_tree
    if repository.interpolated or not choices.keys() <= overrides.known_choices.keys():
        return None
    repository.begin()
    with hydra_rules():
        places = {group: [node for node in _open(tree) if node.get_override_key() == group] for group in choices}
        loaded = {group: repository.load_config(f"{group}/{choice}") for group, choice in choices.items()}
        if repository.faults:
            raise ConfigError(*repository.faults)
        for group, choice in choices.items():
            file = loaded[group]
            if len(places[group]) != 1 or file is None or file.defaults_list:
                return None
            (node,) = places[group]
            node.value, node.config_name_overridden = choice, True
            node.set_package_header(file.header["package"])
        defaults = _tree_to_list(tree)
    result = replace(listed.hydras, defaults=defaults)
    known = {**overrides.known_choices, **choices}
    return read_off(result, known, listed.value_overrides, listed.open - choices.keys(), repository)


def _open(tree: DefaultsTreeNode) -> Iterator[GroupDefault]:
    """The places of groups without a choice."""
    for child in tree.children or ():
        if isinstance(child, DefaultsTreeNode):
            yield from _open(child)
        elif isinstance(child, GroupDefault) and child.value is None:
            yield child
