import inspect
import typing

import pytorch_lightning
from lightning_fabric.connector import _PRECISION_INPUT

from builder.config.trainer_arguments import TRAINER_ARGUMENTS


def test_the_trainers_table_is_that_of_lightning():
    parameters = inspect.signature(pytorch_lightning.Trainer).parameters
    assert list(TRAINER_ARGUMENTS) == list(parameters)
    for name, field in TRAINER_ARGUMENTS.items():
        assert field.refused or field.default == parameters[name].default, name
    precisions = {value for literal in typing.get_args(_PRECISION_INPUT) for value in typing.get_args(literal)}
    assert {value for value in precisions if not TRAINER_ARGUMENTS["precision"].kind.accepts(value)} == set()
    assert not TRAINER_ARGUMENTS["precision"].kind.accepts("8")
