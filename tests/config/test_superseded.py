import pytest

from builder.config.compose import compose
from builder.errors import dotted


def superseded(*overrides):
    return {dotted(item.path): dotted(item.owner) for item in compose(overrides).superseded}


@pytest.mark.parametrize("overrides", [[], ["experiment=wine_sgd"], ["optimizer=sgd"], ["model=cnn", "scheduler=cosine"],
                                       ["optimizer.type=AdamW"], ["+optimizer.eps=1"], ["model.layers.act.type=GELU"],
                                       ["model.layers.fc2=GELU"], ["~optimizer.lr", "optimizer.type=SGD"]])  # fmt: skip
def test_nothing_is_superseded_where_no_type_changes(configs, overrides):
    assert superseded(*overrides) == {}


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["optimizer.type=SGD"], ["optimizer.lr"]),
        (["optimizer={type: SGD}"], ["optimizer.lr"]),
        (["optimizer={type: SGD, lr: 1}"], []),
        (["optimizer.type=SGD", "optimizer.lr=1"], []),
        (["optimizer.lr=1", "optimizer.type=SGD"], []),
        (["optimizer=sgd", "optimizer.type=Adam", "optimizer.lr=1"], ["optimizer.momentum"]),
        (["optimizer.type=SGD", "~optimizer.lr"], []),
        (["model.layers.fc2.type=Bilinear"], ["model.layers.fc2.out_features"]),
        (["scheduler=cosine", "scheduler.type=StepLR", "scheduler.step_size=2"], ["scheduler.T_max"]),
    ],
)
def test_what_was_written_before_a_type_was_changed_is_superseded(configs, overrides, found):
    assert superseded(*overrides) == {path: path.rpartition(".")[0] for path in found}


def test_files_change_types_as_overrides_do(configs, write):
    write("optimizer/adamw.yaml", "type: AdamW\nlr: 1e-3\nbetas: [0.9, 0.99]\neps: 1e-8\n")
    write("experiment/e.yaml", "# @package _global_\noptimizer: {type: SGD, momentum: 0.9}\n")
    assert superseded("experiment=e") == dict.fromkeys(
        ["optimizer.lr", "optimizer.betas", "optimizer.eps"], "optimizer"
    )
    found = superseded("experiment=e", "optimizer.lr=1", "optimizer.betas.0=0.5")
    assert found == {"optimizer.eps": "optimizer"}, "an argument of which an item came later came later itself"
    assert "optimizer.momentum" in superseded("experiment=e", "optimizer.type=Adagrad")


def test_the_arguments_of_a_layer_may_stand_in_args(configs, write):
    write(
        "model/mlp.yaml", "layers:\n  p: {type: PReLU, num_parameters: 2, args: {init: 0.1}}\n  q: [{type: A, b: 1}]\n"
    )
    assert superseded("model.layers.p.type=ReLU") == dict.fromkeys(
        ["model.layers.p.num_parameters", "model.layers.p.args.init"], "model.layers.p"
    )
    assert superseded("model.layers.q.0.type=B") == {"model.layers.q[0].b": "model.layers.q[0]"}
