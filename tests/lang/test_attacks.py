"""A config is data: texts that try to reach Python, a file, a process, pickle, autograd or storage are refused when read."""

import builtins

import pytest
import torch
from lang_helpers import CALLABLES, CONSTANTS, FUNCTIONS, build, scope

from builder.errors import ConfigError
from builder.lang.formula import LangError, parse_formula
from builder.lang.forward import LayerName, Scope, parse_expression, parse_forward
from builder.lang.names import BUILTINS

OPEN = "open('{sentinel}', 'w')"

# Expressions; each is tried as a returned value, as a statement, as a default, as a loss and as a formula.
EXPRESSIONS = [
    OPEN,
    "__import__('os').system('touch {sentinel}')",
    "eval(\"open('{sentinel}', 'w')\")",
    "exec(\"open('{sentinel}', 'w')\")",
    "compile('1', '', 'eval')",
    "getattr(x, '__class__')",
    "setattr(x, 'data', x)",
    "delattr(x, 'data')",
    "vars(x)", "dir(x)", "globals()", "locals()", "input()", "print(x)", "breakpoint()", "help(x)", "memoryview(x)", "super()",
    "type(x)", "type('X', (), {{}})", "object()", "str(x)", "bytes(3)", "map(relu, x)", "filter(relu, x)", "iter(x)", "next(x)",
    "__builtins__", "__builtins__['open']", "__name__", "__file__", "__debug__", "_values", "self", "self.__class__", "NotImplemented",
    "x.__class__", "x.__class__.__mro__[1].__subclasses__()", "().__class__.__base__", "''.__class__", "(1).__class__", "[].__class__",
    "{{}}.__class__", "x.__dict__", "x.__reduce_ex__(2)", "x.__array__()", "x.__init__", "x.__getattribute__('data')", "x.__dlpack__()",
    "x.data", "x.grad", "x.grad_fn", "x.grad_fn.next_functions", "x.storage()", "x.untyped_storage()", "x.data_ptr()", "x.set_(x)", "x.resize_(9)",
    "x.apply_(relu)", "x.map_(x, relu)", "x.register_hook(relu)", "x.backward()", "x.retain_grad()", "x.requires_grad_()", "x.numpy()",
    "x.share_memory_()", "x.pin_memory()", "x.cuda()", "x._base", "x._version", "x._backward_hooks", "x.as_strided((9,), (1,))", "x.type('a')",
    "x.new(3)", "x.as_subclass(x)", "x.module_load(x)", "x.record_stream(x)", "x.names", "x.mean.__self__", "x.mean.__globals__", "x.mean().data",
    "relu.__globals__", "relu.__globals__['torch']", "relu.__code__", "relu.__closure__", "relu.__wrapped__", "relu.__defaults__", "relu",
    "[relu][0].__globals__", "(relu if x else cat).__globals__", "len.__self__", "int.__subclasses__()", "float.fromhex('1')", "int.from_bytes('a')",
    "dict.fromkeys(x)", "range.__class__", "min.__call__", "conv.__class__", "conv.forward.__func__", "conv._modules", "conv.register_forward_hook(relu)",
    "conv.state_dict()", "conv.load_state_dict(x)", "conv.apply(relu)", "conv.weight.data", "conv.weight.grad_fn", "conv.weight.storage()",
    "conv.parameters()", "conv.add_module('a', x)", "conv.train()", "conv.to('cpu')", "conv.__call__(x)", "conv.weight.__class__", "conv.a.b.__class__",
    "(y for y in x).gi_frame", "(y for y in x).gi_frame.f_globals", "(y for y in x).gi_code", "[y for y in x].__class__", "x.f_globals",
    "'{{0.__class__}}'.format(x)", "'{{0}}'.format_map(x)", "'%s' % x", "'%(a)s' % {{'a': x}}", "f'{{x}}'", "f'{{x.__class__}}'", "f'{{x!r}}'",
    "f'{{open(1)}}'", "f'{{x:{{y}}}}'", "'a'.join(x)", "'a'.encode()", "'a'.__class__", "b'a'", "b'a'.decode()",
    "(lambda: 1)()", "(lambda y=open: y)()", "lambda *a, **k: a", "(y := open)", "[y := 1, y]", "[z for y in x if (z := y)]",
    "relu(x, __class__=1)", "relu(x, _private=1)", "relu(**{{'__class__': 1}})", "relu(x, **x)", "dict(__class__=1)",
    "(yield x)", "(yield from x)", "(await x)", "[y async for y in x]", "{{y async for y in x}}", "{{y for y in x}}", "{{1, 2}}",
    "x.ｄａｔａ", "x.__ｃｌａｓｓ__", "ｏｐｅｎ('{sentinel}', 'w')", "ｅval('1')", "__ｉmport__('os')", "x.ﬂoat.__self__", "relu(x, ＿＿class＿＿=1)",
    "Ellipsis.__class__", "....__class__", "None.__class__", "True.real", "not_a_name", "copyright", "exit()", "quit()", "license()", "credits",
    "torch.load('a')", "torch.ops", "os.system('touch {sentinel}')", "sys.modules", "nn.Module", "np.load('a')", "training.__class__", "no_grad().__class__",
    "no_grad(relu)", "float32.__class__", "float32()", "x.device.__class__", "x.dtype.__reduce__()", "x.shape.__class__", "x.items.__self__",
    "x.to.__self__", "heads.items.__self__", "heads.values().__class__", "heads['a'].__class__", "heads[0].__class__", "heads.pop('a')", "heads.update(x)", "heads.clear()",
]  # fmt: skip

STATEMENTS = [
    "import os", "import os as relu", "from os import *", "from os import system as relu", "from . import x", "import torch.serialization",
    "def f(): pass", "@open('{sentinel}', 'w')\ndef f(): pass", "def f(a=open('{sentinel}', 'w')): pass", "class A: pass", "class A(metaclass=open): pass",
    "@open\nclass A:\n  open('{sentinel}', 'w')", "async def f(): pass", "lambda: 0", "global x", "nonlocal x", "del x", "assert open('{sentinel}', 'w')",
    "raise x", "try:\n  open('{sentinel}', 'w')\nexcept Exception as e:\n  e.__traceback__", "try:\n  x.y\nexcept* ValueError as e: pass",
    "try:\n  pass\nfinally:\n  x = open", "while True: pass", "while x: x = x", "with open('{sentinel}', 'w'): pass", "with open('{sentinel}', 'w') as f: f",
    "with no_grad() as f: f.__class__", "with no_grad(), open('{sentinel}', 'w'): pass", "with x: pass", "with conv: pass", "async with x: pass", "async for y in x: pass",
    "match x:\n  case open(): pass", "match x:\n  case {{'a': open}}: pass", "x: open('{sentinel}', 'w') = 1", "x: int", "(x): eval('1') = 2",
    "x.data = x", "x.__class__ = x", "conv.weight = x", "conv.forward = relu", "conv.training = x", "x.a.b = x", "x.data += x", "relu.__code__ = x",
    "[x.data] = [x]", "(x.data, y) = x, x", "for x.data in x: pass", "for x[0].data in x: pass", "[0 for x.data in x]", "with no_grad() as x.data: pass",
    "relu = open", "conv = open", "len = eval", "self = x", "__builtins__ = x", "__class__ = x", "_x = x", "for __builtins__ in x: pass",
    "[0 for __builtins__ in x]", "for open in [eval]: open('1')", "training = x", "width = x", "scale = x", "scale += 1", "for scale in x: pass", "heads['a'] = x",
    "trunk[0] = x", "trunk[0] += x", "\\\nimport os", "x = 1; import os", "if x: import os", "for y in x: import os", "return x; import os",
    "# -*- coding: utf-7 -*-\n+AGkAbQBwAG8AcgB0 os", "#!python\nimport os", "\ufeffimport os", "\fimport os", "x\0import os", "print >> x", "exec 'x'", "`x`",
    "type X = open('{sentinel}', 'w')", "def f[T: open('{sentinel}', 'w')](): pass", "x = yield", "await x", "return (yield)", "break", "continue", "x = *x",
    "*x = x, x\nbreak", "x = x,\nbreak", "for __ in x: pass",
]  # fmt: skip


def attack_scope():
    return Scope(
        inputs={"x": False}, args={"width"}, parameters={"scale"}, buffers={"mean"}, functions=CALLABLES, constants=CONSTANTS,
        layers={
            "conv": LayerName(opaque=True, unused=True),
            "trunk": LayerName("ModuleList", element=LayerName(opaque=True), unused=True),
            "heads": LayerName("ModuleDict", {"a": LayerName(opaque=True)}, unused=True),
        },
    )  # fmt: skip


HARMLESS = ("is never used in forward", "this value is not used", "this statement is never reached")


def refused(read, *arguments, **names):
    """The text is refused, and not for one of the reasons for which a harmless text would be."""
    with pytest.raises((ConfigError, LangError)) as caught:
        read(*arguments, **names)
    if isinstance(caught.value, ConfigError):
        assert [fault.message for fault in caught.value.faults if not fault.message.endswith(HARMLESS)], arguments[0]


def test_there_are_many():
    assert len(EXPRESSIONS) + len(STATEMENTS) > 250
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS) and len(set(STATEMENTS)) == len(STATEMENTS)


@pytest.mark.parametrize("attack", EXPRESSIONS)
def test_an_expression_that_reaches_out_is_refused_and_nothing_runs(attack, tmp_path):
    text = attack.format(sentinel=tmp_path / "sentinel")
    known = attack_scope()
    for forward in (
        f"return {text}", f"{text}\nreturn x", f"y = {text}\nreturn x", f"return relu({text}) + x", f"return [{text}, x]",
        f"if x: y = {text}\nreturn x", f"for y in {text}: pass\nreturn x", f"return [0 for y in x if {text}]", f"return x[{text}]",
        f"return {{'a': {text}, 'b': x}}", f"with no_grad():\n  y = {text}\nreturn x", f"x[{text}] = 1\nreturn x", f"return relu(x, a={text})",
    ):  # fmt: skip
        refused(parse_forward, forward, known)
    refused(parse_expression, text, ["x"], CALLABLES, constants=CONSTANTS)
    refused(parse_expression, f"x + [{text}]", ["x"], CALLABLES, constants=CONSTANTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attack", EXPRESSIONS)
def test_a_formula_that_reaches_out_is_refused_and_nothing_runs(attack, tmp_path):
    text = attack.format(sentinel=tmp_path / "sentinel")
    names = {"x": {"a": 1}, "conv": [1], "self": [1]}
    for formula in (text, f"1 + len([{text}])", f"[0 for y in [1] if {text}]"):
        try:
            value = parse_formula(formula).evaluate(names)
        except LangError:
            continue
        assert text in ("relu", "self", "[relu][0]") and value in ([1], 2, [0]), (formula, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attack", STATEMENTS)
def test_a_statement_that_reaches_out_is_refused_and_nothing_runs(attack, tmp_path):
    text = attack.format(sentinel=tmp_path / "sentinel")
    refused(parse_forward, f"{text}\nreturn x", attack_scope())
    refused(parse_expression, text, ["x"], CALLABLES)
    refused(parse_formula, text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["__class__", "_modules", "__builtins__", "forward", "ｄata", "self", "training", "len"]
)
def test_a_declared_name_opens_no_door(name):
    for group in ("args", "parameters", "buffers"):
        refused(parse_forward, f"return x + {name}", Scope(inputs={"x": False}, **{group: {name}}))
    refused(parse_forward, f"return {name}(x)", Scope(inputs={"x": False}, layers={name: LayerName(opaque=True)}))
    if name != "forward":
        refused(parse_forward, f"return x + {name}", Scope(inputs={"x": False, name: False}))


def test_input_names_are_no_way_into_the_signature(tmp_path):
    sentinel = tmp_path / "sentinel"
    for name in (f"y=open({str(sentinel)!r}, 'w')", "*args", "**kwargs", "y, z", "y): pass\n#", "x\n", "y:int"):
        refused(parse_forward, "return x", Scope(inputs={"x": False, name: True}))
    assert not sentinel.exists()


def test_a_dangerous_text_is_only_a_key():
    module = build("return {'__class__': x}['__class__']")
    x = torch.ones(2)
    assert module(x) is x
    with pytest.raises((IndexError, TypeError)):
        build("return x['__class__']")(x)


def test_an_attribute_that_every_object_has_is_never_allowed():
    for name in [*dir(object()), *dir(relu_frame()), *dir(lambda: 0), "gi_frame", "cr_frame", "ag_frame", "tb_frame"]:
        refused(parse_forward, f"return x.{name}", scope())


def relu_frame():
    return (0 for _ in ()).gi_frame


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + ")" * 5000, "[" * 60 + "]" * 60, "x" + "[0" * 3000, "x" + ".T" * 20000, "x" + "()" * 9000, "-" * 30000 + "x", "not " * 9000 + "x",
        "x" + "+x" * 20000, "x" + "**x" * 9000, "x if x else " * 3000 + "x", "lambda: " * 5000 + "x", "f(" * 3000, "{1:" * 3000, "[x for x in " * 50 + "x" + "]" * 50,
        "x" + " and x" * 9000 + " or x" * 5, "x," * 40000, "1" * 60000, "0x" + "f" * 60000, "1e" + "9" * 5000, "'" + "a" * 60000 + "'", "x" * 60000, "\\\n" * 30000,
        "if x:\n" + "".join(" " * i + "if x:\n" for i in range(1, 99)) + " " * 99 + "x", "if x: pass\n" + "elif x: pass\n" * 4000, "for a in x:\n" * 3, "x = " * 9000 + "x",
        "a" * 100000, "\0" * 10, "\ud800", "'\ud800'", "x = '\\ud800'", "\\", "\t x", "é" * 30000, "((((" * 9 + "'))))))))'" * 9, "print(" * 90, "a=" * 20000, ";" * 100, "@" * 9000,
        "f'" + "{" * 200, "f'{" * 100, "f'''" + "{f\"\"\"" * 2, "with " + "(" * 39, "x[" + ":" * 9000 + "]", "match " * 9000, "async " * 9000, "x = y = " * 3000 + "1",
        "*" * 9000, "**" * 9000 + "x", "a:" * 9000, "x\n" * 30000, "a" + ";b" * 20000, "\n".join(f"y{i} = z{i}" for i in range(4000)), "x!r" * 9000, "1_" * 9000, "x" + " is x" * 9000,
    ],
    ids=range(56),
)  # fmt: skip
@pytest.mark.timeout(60)
def test_a_text_can_neither_hang_nor_crash_the_reading(text):
    for read in (
        lambda: parse_forward(text, scope()),
        lambda: parse_forward(f"return {text}", scope()),
        lambda: parse_expression(text, ["x"], CALLABLES),
        lambda: parse_formula(text),
    ):
        try:
            read()
        except (ConfigError, LangError):
            pass


@pytest.mark.timeout(60)
def test_constants_that_would_explode_are_not_folded():
    for text in (
        "9 ** 9 ** 9",
        "'a' * 10 ** 10",
        "(0,) * 10 ** 10",
        "1 << 10 ** 10",
        "[0] * 10 ** 10",
        "2 ** 63 ** 63",
    ):
        try:
            parse_forward(f"return relu(x, {text})", scope())
        except ConfigError:
            pass


@pytest.mark.timeout(60)
def test_tuples_in_tuples_do_not_explode_the_checker():
    text = "y = (conv, conv)\n" + "y = (y, y)\n" * 400 + "for z in y: pass\n" * 400 + "z = y if x else y\nreturn x"
    parse_forward(text, attack_scope())
    wide = "y = (" + "conv, " * 2000 + ")\n" + "z = (" + "y, " * 2000 + ")\n" + "for w in z: pass\n" * 500 + "return x"
    parse_forward(wide, attack_scope())


def test_functions_bound_hold_no_builtin_that_a_config_can_name():
    function = parse_forward("return relu(x)", scope()).bind(FUNCTIONS)
    for name in {*function.__globals__["__builtins__"], *vars(builtins)} - {*BUILTINS, "None", "True", "False"}:
        refused(parse_forward, f"return {name}", scope())
        refused(parse_forward, f"return {name}(x)", scope())
        refused(parse_expression, f"x + {name}(x)", ["x"], CALLABLES)
        refused(parse_formula, f"{name}(x)")
