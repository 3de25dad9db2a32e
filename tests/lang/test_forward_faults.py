"""What is wrong with a forward, and how it is said."""

import pytest
from lang_helpers import PATH, errors, faults, plain, scope

from builder.errors import ConfigError, Origin
from builder.lang.forward import LayerName, parse_forward

NET = dict(
    inputs=("x", "y"),
    layers={
        "conv": LayerName(opaque=True),
        "trunk": plain("ModuleList", **{"0": plain(), "1": plain()}),
        "heads": plain("ModuleDict", depth=plain(), seg=plain()),
        "spare": LayerName(unused=True),
    },
    args=frozenset({"width"}), parameters={"scale"}, buffers={"mean"},
)  # fmt: skip


def test_all_faults_of_a_forward_are_told_whole():
    text = (
        "x = conv(x) + convv(x)\n"
        "for block in trunk:\n"
        "  x = block(x) + h\n"
        "scale = relu.__globals__\n"
        "x = trunk(x)\n"
        "import os\n"
        "return rellu(x.mena())\n"
    )
    assert str(errors(text, **NET)) == (
        "net.yaml:21: model.forward: unknown function or layer 'convv'\n"
        "  found:    'x = conv(x) + convv(x)'\n"
        "  did you mean 'conv'?\n"
        "net.yaml:23: model.forward: unknown name 'h'\n"
        "  found:    'x = block(x) + h'\n"
        "net.yaml:24: model.forward: 'scale' is a parameter and can't be assigned\n"
        "  found:    'scale = relu.__globals__'\n"
        "  hint:     only buffers can be assigned\n"
        "net.yaml:24: model.forward: the function 'relu' can only be called\n"
        "  found:    'scale = relu.__globals__'\n"
        "  expected: relu(…)\n"
        "net.yaml:25: model.forward: 'trunk' is a ModuleList and can't be called\n"
        "  found:    'x = trunk(x)'\n"
        "  hint:     loop over it and call its layers: for layer in trunk\n"
        "net.yaml:26: model.forward: import is not part of the language\n"
        "  found:    'import os'\n"
        "  hint:     registered functions are called by their name: relu(x)\n"
        "net.yaml:27: model.forward: unknown function or layer 'rellu'\n"
        "  found:    'return rellu(x.mena())'\n"
        "  did you mean 'relu'?\n"
        "net.yaml:27: model.forward: attribute 'mena' is not part of the language\n"
        "  found:    'return rellu(x.mena())'\n"
        "  expected: a method or property of a tensor that computes on it or describes it\n"
        "  did you mean 'mean' or 'median'?\n"
        "net.yaml:20: model.inputs.y: the input 'y' is never used in forward\n"
        "net.yaml:20: model.layers.heads: the layer 'heads' is never used in forward\n"
        "  hint:     call it, or say `unused: true` in it"
    )


def test_a_fault_names_line_and_column_of_the_yaml_file():
    (fault,) = errors("y = 1\nreturn relu('ä', x, nope)").faults[:1]
    assert (fault.origin.file, fault.origin.line, fault.origin.column) == ("net.yaml", 22, 4 + 21)
    assert fault.path == PATH


def test_a_syntax_error_is_told_at_its_line():
    assert str(errors("y = x\nif y:\nreturn y")) == (
        "net.yaml:23: model.forward: not Python: expected an indented block after 'if' statement on line 2\n"
        "  found:    'return y'"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("return x.data", ["attribute 'data' is not part of the language"]),
        ("return 'a'", []),
        ("y = x + 'a'\nreturn y", ["a text can't be computed with"]),
        ("return '%s' % x", ["a text can't be computed with"]),
        ("return f'{x}'", ["an f-string is not part of the language"]),
        ("def f(): pass\nreturn x", ["a function definition is not part of the language"]),
        ("while x: pass\nreturn x", ["while is not part of the language"]),
        ("y: int = 3\nreturn x", ["a type annotation is not part of the language"]),
        ("try:\n  pass\nexcept: pass\nreturn x", ["try is not part of the language"]),
        ("assert x\nreturn x", ["assert is not part of the language"]),
        ("raise x\nreturn x", ["raise is not part of the language"]),
        ("del x\nreturn x", ["del is not part of the language"]),
        ("global x\nreturn x", ["global is not part of the language"]),
        ("yield x\nreturn x", ["yield is not part of the language"]),
        ("return (y := x)", [":= is not part of the language"]),
        ("return {1, 2}", ["a set is not part of the language"]),
        ("return relu(**{'x': x})", ["'**' in a call is not part of the language"]),
        ("return b'x'", ["a bytes constant is not part of the language"]),
        ("x", ["this value is not used", "forward never returns a value"]),
        ("'a docstring'\nreturn x", ["this value is not used"]),
        ("y = x", ["forward never returns a value"]),
        ("return", ["return without a value"]),
        ("return x\ny = x", ["this statement is never reached"]),
        ("if x:\n  return x\nelse:\n  return 1\ny = x", ["this statement is never reached"]),
        ("for i in x:\n  break\n  i = 2\nreturn x", ["this statement is never reached"]),
        ("break\nreturn x", ["break stands in no loop", "this statement is never reached"]),
        ("for i in x: pass\nelse: x = 2\nreturn x", ["'else' of a loop is not part of the language"]),
        ("x.y = 3\nreturn x", ["an attribute can't be assigned"]),
        ("with x: pass\nreturn x", ["this can't stand in `with`"]),
        ("with no_grad() as g: pass\nreturn x", ["'as' after `with` is not part of the language"]),
        ("with relu(x): pass\nreturn x", ["this can't stand in `with`"]),
        ("g = no_grad()\nreturn x", ["'no_grad' can only stand in `with`"]),
        ("return self.x", ["unknown name 'self'"]),
        ("return torch.relu(x)", ["unknown name 'torch'"]),
        ("return print(x)", ["unknown function or layer 'print'"]),
        ("return float32(x)", ["'float32' is a value and can't be called"]),
        ("return training()", ["'training' is a value and can't be called"]),
        ("training = 1\nreturn x", ["'training' is a name with a meaning of its own and can't be assigned"]),
        ("self = 1\nreturn x", ["'self' is a name with a meaning of its own and can't be assigned"]),
        ("len = 1\nreturn x", ["'len' is a builtin of the language and can't be assigned"]),
        ("for relu in x: pass\nreturn x", ["'relu' is a function and can't be assigned"]),
        ("return [relu for relu in x]", ["'relu' is a function and can't be assigned"]),
        ("_a = 1\nreturn x", ["the name '_a' begins with an underscore"]),
        ("return relu(x, _p=1)", ["the name '_p' begins with an underscore"]),
        ("return 99999999999999999999999", ["an integer constant is larger than 2**64"]),
        ("return int.real", ["attribute 'real' of a constant is not part of the language"]),
        ("return (1).real", ["attribute 'real' of a constant is not part of the language"]),
        ("return x(x)", ["'x' is an input and can't be called"]),
        ("return (1, 2)(x)", ["this tuple can't be called"]),
        ("return {}(x)", ["this dict can't be called"]),
        ("match x:\n  case 1: pass\nreturn x", ["match is not part of the language"]),
        ("async def f(): pass\nreturn x", ["async is not part of the language"]),
        ("return [y async for y in x]", ["async is not part of the language"]),
        ("return relu(x, x=1, x=2)", ["not Python: keyword argument repeated: x"]),
        ("return x is 1", ['not Python: "is" with a literal. Did you mean "=="?']),
        ("*a, *b = x\nreturn a", ["not Python: multiple starred expressions in assignment"]),
        ("return '\\d'", ["not Python: invalid escape sequence '\\d'"]),
        ("", ["forward is empty"]),
        ("# nothing", ["forward is empty"]),
        (" return x", ["not Python: unexpected indent"]),
        ("return x\0", None),
        ("a, b, c = (conv, conv)\nreturn x", None),
    ],
)  # fmt: skip
def test_a_forbidden_construct_is_named(text, found):
    unused = "the input 'x' is never used in forward"
    messages = [message for message in faults(text) if message != unused]
    assert messages if found is None else messages == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("return conv + x", "'conv' is a layer, not a tensor"),
        ("return -trunk", "'trunk' is a ModuleList, not a tensor"),
        ("return conv < 1", "'conv' is a layer, not a tensor"),
        ("for a in conv: pass\nreturn x", "'conv' is a layer and can't be looped over"),
        ("return conv[0](x)", "'conv' is a layer and has no items"),
        ("return heads(x)", "'heads' is a ModuleDict and can't be called"),
        ("return trunk[2](x)", "'trunk' has no layer 2"),
        ("return trunk[-3](x)", "'trunk' has no layer -3"),
        ("return trunk['0'](x)", "'trunk' has no layer '0'"),
        ("return heads['dept'](x)", "'heads' has no layer 'dept'"),
        ("return heads[0](x)", "'heads' has no layer 0"),
        ("return heads[1:]", "'heads' is a ModuleDict and can't be sliced"),
        ("return trunk[0][0](x)", "'trunk[0]' is a layer and has no items"),
        ("return heads.dept(x)", "'heads' has no submodule, parameter or buffer 'dept'"),
        ("return conv.forward(x)", "attribute 'forward' of 'conv' is nn.Module's own"),
        ("return conv.parameters()", "attribute 'parameters' of 'conv' is nn.Module's own"),
        ("return conv._parameters", "attribute '_parameters' of 'conv' is not part of the language"),
        ("return conv.weight.data", "attribute 'data' of 'conv.weight' is not part of the language"),
        ("return conv.weight.grad", "attribute 'grad' of 'conv.weight' is not part of the language"),
        ("trunk[0] = x\nreturn x", "a layer's items can't be assigned"),
        ("conv = x\nreturn x", "'conv' is a layer and can't be assigned"),
        ("for conv in x: pass\nreturn x", "'conv' is a layer and can't be assigned"),
        ("return [conv for conv in x]", "'conv' is a layer and can't be assigned"),
        ("width = 3\nreturn x", "'width' is an arg and can't be assigned"),
        ("scale += x\nreturn x", "'scale' is a parameter and can't be assigned"),
        ("for mean in x: pass\nreturn x", "'mean' is a buffer and can't be assigned"),
        ("return scale(x)", "'scale' is a parameter and can't be called"),
        ("s = scale\nreturn s(x)", "'s' is a parameter and can't be called"),
        ("return mean(x)", "'mean' is a buffer and can't be called"),
        ("return width(x)", "'width' is an arg and can't be called"),
        ("for a, b in zip(trunk): pass\nreturn x", "1 values can't be unpacked into 2 names"),
        ("return x if conv.weight.device.type == 'cpu' else y", None),
        ("for a in enumerate(trunk):\n  x = a(x)\nreturn x", None),
        ("for i, block in enumerate(trunk): x = block.conv9(x)\nreturn x", "'trunk[0]' has no submodule, parameter or buffer 'conv9'"),
        ("block = trunk[0] if width else trunk[1]\nreturn block.a", "'trunk[0]' has no submodule, parameter or buffer 'a'"),
    ],
)  # fmt: skip
def test_a_layer_used_wrongly_is_told(text, found):
    unused = ("is never used in forward",)
    messages = [message for message in faults(text, **NET) if not message.endswith(unused)]
    assert messages == ([] if found is None else [found])


def test_unknown_keys_of_a_module_dict_name_the_nearest():
    (fault, *_) = errors("return heads['dept'](conv(x) + y) + trunk[0](x)", **NET).faults
    assert str(fault) == (
        "net.yaml:21: model.forward: 'heads' has no layer 'dept'\n"
        "  found:    \"return heads['dept'](conv(x) + y) + trunk[0](x)\"\n"
        "  expected: one of 'depth', 'seg'\n"
        "  did you mean 'depth'?"
    )


def test_what_is_declared_is_checked_too():
    assert faults("return x", inputs=("x", "conv"), layers={"conv": LayerName(unused=True)}) == [
        "the input 'conv' is called like a layer",
        "the input 'conv' is never used in forward",
    ]
    assert faults("return x", layers={"a": LayerName(unused=True)}, parameters={"a"}) == [
        "'a' is declared twice, also as a layer"
    ]
    for name in ("_x", "self", "ﬁ", "len", "for", "a b"):
        assert any(message.startswith(f"the name {name!r} ") for message in faults("return x", inputs=("x", name)))
        assert any(message.startswith(f"the name {name!r} ") for message in faults("return x", args=frozenset({name})))
    text = "the input 'x' must come before the optional input 'mask'"
    with pytest.raises(ConfigError) as caught:
        parse_forward("return x + mask", _ordered({"mask": True, "x": False}), origin=Origin("a.yaml", 3), path=PATH)
    assert [fault.message for fault in caught.value.faults] == [text]


def _ordered(inputs):
    known = scope()
    return type(known)(inputs=inputs, functions=known.functions)


def test_layers_of_a_list_cant_be_named_in_forward():
    (fault,) = errors("return x", layers={"0": LayerName(origin=Origin("net.yaml", 7, 5))}).faults
    assert str(fault) == (
        "net.yaml:7: model.layers.0: the layer '0' is never used in forward\n"
        "  hint:     forward can only call layers that have names; name them under `layers`"
    )


def test_an_input_never_used_is_told_where_it_was_declared():
    (fault,) = errors("return x", inputs=("x", "mask"), origins={"mask": Origin("net.yaml", 4, 3)}).faults
    assert str(fault) == "net.yaml:4: model.inputs.mask: the input 'mask' is never used in forward"


def test_a_name_misspelled_is_not_told_twice():
    assert faults("return cnov(x)", layers={"conv": LayerName()}) == ["unknown function or layer 'cnov'"]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("y = z + x\nz = x\nreturn y + z", "z"),
        ("if x:\n  return y\ny = 1\nreturn y", "y"),
        ("if x:\n  y = 1\nelse:\n  x = y\nreturn x", "y"),
        ("for a in x:\n  y = a + y\nreturn y", "y"),
        ("for a in x:\n  y += a\nreturn y", "y"),
        ("for a in x:\n  y = f\n  f = a\nreturn y", "f"),
        ("return [y for a in x]\ny = 1", "y"),
    ],
)
def test_a_local_certainly_used_before_it_is_assigned(text, before):
    messages = [message for message in faults(text) if "never reached" not in message]
    assert messages == [f"{before!r} is used before it is assigned"]


@pytest.mark.parametrize(
    "text",
    [
        "if x:\n  y = 1\nreturn y + x",
        "for i in range(3):\n  if i > 0:\n    x = x + prev\n  prev = x\nreturn x",
        "for i in range(3):\n  if i == 0:\n    prev = x\n    continue\n  x = x + prev\nreturn x",
        "for i in range(3):\n  for j in range(i):\n    x = x + last\n  last = x\nreturn x",
        "for i in range(3):\n  if i:\n    y = i\n    break\nreturn x + y",
        "for i in x:\n  pass\nreturn i",
        "for i in range(2):\n  x = f(x) if i else x\n  f = conv\nreturn x",
        "for i in range(2):\n  if i: x = f(x)\n  f = conv\nreturn x",
    ],
)
def test_a_local_that_may_have_been_assigned_is_left_alone(text):
    messages = faults(text, layers={"conv": LayerName(unused=True)})
    assert messages in ([], ["'f' is used before it is assigned"]) and (messages == []) is ("else x" not in text)


def test_a_comprehensions_names_end_with_it():
    assert faults("y = [a for a in x]\nreturn a") == ["unknown name 'a'"]


def test_paths_below_opaque_layers_are_told_to_whoever_builds():
    forward = parse_forward(
        "x = enc.layers[0].linear1(x) + enc.norm.weight.mean(dim=0)\n"
        "for block in trunk:\n  x = block.attn(x) @ block.attn.in_proj_weight.T\n"
        "for part in enc.parts:\n  x = part(x)\n"
        "return x + enc.parts[n].bias",
        scope(args={"n"}, layers={"enc": LayerName(opaque=True), "trunk": LayerName("ModuleList", element=LayerName(opaque=True))}),
    )  # fmt: skip
    assert [str(reference) for reference in forward.references] == [
        "enc.layers[0].linear1", "enc.norm.weight.mean", "trunk[*].attn", "trunk[*].attn.in_proj_weight.T", "enc.parts",
        "enc.parts[*].bias",
    ]  # fmt: skip


def test_a_reference_is_checked_against_what_was_built():
    modules = ["", "enc", "enc.layers", "enc.layers.0", "enc.norm", "trunk", "trunk.0", "trunk.1", "trunk.1.attn"]
    tensors = ["enc.norm.weight", "enc.layers.0.bias"]

    def fault_of(text):
        forward = parse_forward(
            f"return {text}",
            scope(inputs=(), layers={"enc": LayerName(opaque=True, unused=True), "trunk": LayerName("ModuleList", opaque=True, unused=True)}),
        )  # fmt: skip
        (reference,) = forward.references
        fault = reference.fault(modules, tensors)
        return None if fault is None else (fault.message, fault.nearest)

    for text in (
        "enc.norm",
        "enc.norm.weight",
        "enc.norm.weight.T.shape",
        "enc.norm.weight[0]",
        "enc.layers[0].bias",
        "[b.attn for b in trunk]",
    ):
        assert fault_of(text) is None
    assert fault_of("enc.nrom") == ("'enc' has no submodule, parameter or buffer 'nrom'", ("norm",))
    assert fault_of("enc.layers[1]") == ("'enc.layers' has no submodule, parameter or buffer '1'", ())
    assert fault_of("enc.norm.eps") == ("'enc.norm' has no submodule, parameter or buffer 'eps'", ())
    assert fault_of("enc.norm.weight.name") == (
        "tensor 'enc.norm.weight' has no 'name' that forward may use",
        ("nanmean", "numel", "ne"),
    )
    assert fault_of("[b.attm for b in trunk]") == ("'trunk[*]' has no submodule, parameter or buffer 'attm'", ("attn",))
