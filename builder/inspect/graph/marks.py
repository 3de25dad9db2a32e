"""What is said of the frozen parts of a model in a drawing."""

from __future__ import annotations

from torch import nn

from builder.weights.freeze_plan import FrozenPlan


def frozen_words(model: nn.Module, plan: FrozenPlan | None) -> dict[str, str]:
    """Module path → `frozen`, `frozen until epoch 1`, `frozen at first`, for modules none of which trains at first."""
    words: dict[int, str] = {id(parameter): "frozen" for parameter in model.parameters() if not parameter.requires_grad}
    named = dict(model.named_parameters())
    for rule in plan.rules if plan is not None else ():
        for name in rule.parameters if rule.holds(0, 0) else ():
            said = "frozen" if rule.until is None else f"frozen until {rule.until}"
            other = words.get(id(named[name]))
            words[id(named[name])] = said if other in (None, said) or said == "frozen" else other or said
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        said_of = {words.get(id(parameter)) for parameter in module.parameters()}
        if said_of and None not in said_of:
            found[path] = str(said_of.pop()) if len(said_of) == 1 else "frozen at first"
    return found
