"""The sections of a config: which keys they have, what those may be, and what stands where they are absent."""

from __future__ import annotations

from builder.config.kinds import (
    ANYTHING,
    BOOLEAN,
    FOLDER,
    LIST,
    MAPPING,
    NULL,
    TEXT,
    Field,
    Names,
    Node,
    Section,
    choice,
    either,
    integer,
    number,
)  # fmt: skip
from builder.config.trainer_arguments import OURS, TRAINER_ARGUMENTS

LARGEST_SEED = 2**32 - 1

_TYPE = Field("the registered name of what is built", TEXT, required=True)
_COMPONENT = Section("a registered component with its arguments", {"type": _TYPE}, open=True)
_OPTIONAL_COMPONENT = Section("a component, or null for none", {"type": _TYPE}, open=True, short=NULL)

_NODE_KEYS: dict[str, Node] = {}
_DEFINITION_KEYS: dict[str, Node] = {}
_DEFINITION = Section("a module definition", _DEFINITION_KEYS)
_NODE = Section(
    "a layer: a type's name, a mapping with a type, or a definition",
    _NODE_KEYS,
    open=True,
    short=TEXT,
    short_for="type",
)
_DEFINITION_KEYS.update(
    name=Field("the class's name", TEXT),
    description=Field("a note on what this is", TEXT),
    args=Field("names and defaults of the module's arguments", ANYTHING),
    inputs=Field("what forward takes", ANYTHING),
    blocks=Names("module definitions usable as a type", _DEFINITION),
    parameters=Names("parameters of this module", Field("shape, init, dtype", ANYTHING)),
    buffers=Names("buffers of this module", Field("shape, init, dtype, persistent", ANYTHING)),
    layers=Names("submodules, in order", _NODE),
    forward=Field("the forward pass", TEXT),
    init=Field("initialisation rules, in order", ANYTHING),
    tie=Field("parameters that are one and the same", ANYTHING),
)
_NODE_KEYS.update(
    _DEFINITION_KEYS,
    type=Field("what the layer is", TEXT),
    repeat=Field("how many copies a container holds", ANYTHING),
    layer=_NODE,
    when=Field("the condition on which the layer is made", ANYTHING),
    unused=Field("whether forward may leave the layer out", BOOLEAN),
)
DEFINING_KEYS = _NODE_KEYS.keys() - {"type", "args", "when", "unused"}
"""Keys of a mapping that says itself what a layer holds."""

DATA = Section(
    "the data set and how batches are made of it",
    {
        "type": _TYPE,
        "batch_size": Field("samples in a training batch", integer(1), required=True),
        "eval_batch_size": Field(
            "samples in a validation or test batch; null: as in training", either(integer(1), NULL)
        ),
        "shuffle": Field("whether training samples come in a new order each epoch", BOOLEAN, True),
        "drop_last": Field("whether an incomplete last training batch is left out", BOOLEAN, False),
        "transforms": Field("what is done to batches: the lists train and eval", either(MAPPING, NULL)),
        "num_workers": Field("processes that make batches; null: what suits the data", either(integer(0), NULL)),
        "in_memory": Field("whether all samples are read into memory; null: if they fit", either(BOOLEAN, NULL)),
        "device": Field("whether all samples lie on the device that trains", BOOLEAN, False),
    },
    open=True,
    required=True,
)

TASK = Section(
    "what is learnt: the loss, the metrics, and which of them says how good a model is",
    {
        "loss": Section(
            "an expression, or a registered loss",
            {"type": Field("the registered name of the loss; none for terms by name", TEXT)},
            open=True,
            short=TEXT,
            required=True,
        ),
        "prediction": Field("an expression for what metrics compare with the target", TEXT, "output"),
        "metrics": Names("metrics by name", _COMPONENT),
        "monitor": Field("the logged value by which checkpoints are chosen", either(TEXT, NULL)),
        "mode": Field("whether the monitored value should fall or rise", either(choice("min", "max"), NULL)),
        "tensors": Names("tensors made of the batch's, by name and in order", Field("an expression", TEXT)),
        "inputs": Field("tensors of the batch for inputs of the model that are named otherwise", either(MAPPING, LIST)),
    },
    required=True,
)

OPTIMIZER = Section(
    "the optimiser and its arguments",
    {
        "type": _TYPE,
        "lr": Field("learning rate", number(0)),
        "groups": Field("parameters with arguments of their own, in order: the first that matches", LIST, []),
        "no_decay": Field("parameters without weight decay: a selector", ANYTHING),
        "layer_decay": Field("what the rate is multiplied by from a layer to the one below", ANYTHING),
    },
    open=True,
    required=True,
)

SCHEDULER = Section(
    "the learning rate's schedule and its arguments, or null for a constant rate",
    {
        "type": _TYPE,
        "interval": Field("whether it steps each epoch or each optimiser step", choice("epoch", "step"), "epoch"),
        "frequency": Field("how many of these pass between two of its steps", integer(1), 1),
        "monitor": Field("the logged value that a plateau is seen in", either(TEXT, NULL)),
    },
    open=True,
    short=NULL,
)

LOAD = Section(
    "weights of another model to begin with; a list for several, a path alone, or null for none",
    {
        "path": Field("a file of weights, a folder of such, or a run: run:NAME@best", TEXT, required=True),
        "into": Field("the submodule that they are for; absent: the whole model", either(TEXT, NULL)),
        "key": Field("where in the file the weights lie", either(TEXT, NULL)),
        "weights": Field("which weights of a checkpoint: raw or ema", either(TEXT, NULL)),
        "rules": Field("how names become the model's, in order", LIST),
        "shape": Field("what is done where shapes differ", ANYTHING),
        "missing": Field("what is done about parameters that aren't in the file", ANYTHING),
        "unexpected": Field("what is done about names that the model hasn't", ANYTHING),
        "strict": Field("whether all three are errors", BOOLEAN),
        "min_loaded": Field("the least share of the model's parameters that is loaded", number(0, 1)),
    },
    short=either(NULL, either(LIST, TEXT)),
    short_for="path",
)

FREEZE = Section(
    "what isn't trained, or not at first: a selector, a rule, a list of them, or null for nothing",
    {
        "select": Field("which modules and parameters", ANYTHING),
        "mode": Field("whether frozen modules are in eval or train mode", choice("eval", "train")),
        "until": Field("the epoch or step from which on they train; absent: never", ANYTHING),
        **dict.fromkeys(
            ("match", "type", "name", "ndim", "requires_grad", "not"), Field("part of a selector", ANYTHING)
        ),
    },
    short=either(NULL, either(LIST, TEXT)),
)

HOOK = Section(
    "a hook, which does one thing to what it selects; or null for none",
    {
        "select": Field("which modules or parameters; null: all", ANYTHING),
        "of": Field(
            "what it is about",
            choice("activations", "gradients", "weights", "updates", "weight_gradients"),
        ),
        "every_n_steps": Field("after how many optimiser steps it is due", integer(1)),
        "record": Field(
            "statistics for the loggers: mean, std, norm, zeros, non_finite, histogram", either(LIST, TEXT)
        ),
        "save": Field("what is written into files of the run folder", choice("activations", "gradients")),
        "keep": Field("how many of these files are kept", integer(1), 10),
        "max_mb": Field("MiB that one of these files may hold", number(0), 256),
        "print": Field("what is printed once", choice("shapes")),
        "clip": Field("a bound on gradients: norm or value", MAPPING),
        "scale": Field("what gradients are multiplied by", number()),
        "zero": Field("whether gradients become zero", BOOLEAN),
        "noise": Field("the std of noise that is added to gradients", MAPPING),
        "type": Field("the registered name of a hook function", TEXT),
    },
    open=True,
    short=NULL,
)

_NAMED = either(NULL, TEXT)

SWEEP = Section(
    "many trainings: what is varied, how, and where they run; null for none",
    {
        "name": Field("the sweep's name, that of its folder; null: the experiment's name and the time", _NAMED),
        "space": Field("what is varied: overrides' keys with choices, ranges and intervals", either(MAPPING, NULL)),
        "trials": Field("how many trials in all; null: every point of a grid", either(integer(1), NULL)),
        "sampler": Section(
            "how points are chosen; null: all in order, or tpe where there are infinitely many",
            {"type": _TYPE}, open=True, short=_NAMED, short_for="type",
        ),
        "pruner": Section(
            "how hopeless trials are found and ended; null: none",
            {"type": _TYPE}, open=True, short=_NAMED, short_for="type",
        ),
        "objectives": Field(
            "what is sought, each 'NAME min' or 'NAME max'; null: what the task monitors",
            either(NULL, either(LIST, TEXT)),
        ),
        "seeds": Field("trainings of each trial, by seed: how many, or which", either(integer(1), either(LIST, NULL))),
        "folds": Field("trainings of each trial, by fold of the data", either(integer(2), NULL)),
        "seed": Field("what the sampler's randomness follows from", integer(0, LARGEST_SEED), 0),
        "executor": Section("where trials run", {"type": _TYPE}, open=True, short=TEXT, short_for="type"),
        "retry": Field("how often a trial that failed is tried again", integer(0), 0),
        "storage": Field("the study: an Optuna storage's URL, or a journal file; null: a file in the folder", _NAMED),
    },
    short=NULL,
)  # fmt: skip

TOP = Section(
    "a whole config",
    {
        "name": Field("the experiment's name; null: the experiment chosen, or DATA_MODEL", either(TEXT, NULL)),
        "description": Field("a note on what this is about", either(TEXT, NULL)),
        "seed": Field("what all randomness follows from", integer(0, LARGEST_SEED), 0),
        "output_dir": Field("the folder in which run folders are made", FOLDER, "outputs"),
        "report": Field("whether a page about the run is written into its folder when it ends", BOOLEAN, True),
        "model": Section("the model's definition", _NODE_KEYS, open=True, required=True),
        "init": Field("initialisation rules for the whole model, after its own", either(LIST, MAPPING), []),
        "init_seed": Field(
            "what initial weights follow from; null: from 'seed'", either(integer(0, LARGEST_SEED), NULL)
        ),
        "load": LOAD,
        "freeze": FREEZE,
        "data": DATA,
        "task": TASK,
        "optimizer": OPTIMIZER,
        "scheduler": SCHEDULER,
        "trainer": Section("arguments of Lightning's Trainer", {**TRAINER_ARGUMENTS, **OURS}),
        "callbacks": Names("callbacks by name; null takes one away", _OPTIONAL_COMPONENT),
        "logger": Names("loggers by name; null takes one away", _OPTIONAL_COMPONENT),
        "hooks": Names("hooks by name or in a list; null takes one away", HOOK, short=LIST),
        "sweep": SWEEP,
        "hydra": Field("", ANYTHING, refused="Hydra's own settings have no use here; 'output_dir' says where runs lie"),
    },
)
"""The whole schema. What is inside of `model` belongs to the model language, which checks it."""


def top_defaults() -> dict[str, object]:
    """What stands where a key at the top of a config is absent; sections that are required have none."""
    found: dict[str, object] = {}
    for name, node in TOP.fields.items():
        if isinstance(node, Field):
            if node.refused is None and name != "description":
                found[name] = node.default
        elif not node.required:
            found[name] = None if node.short is not None and node.short.accepts(None) else {}
    return found
