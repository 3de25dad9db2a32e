"""Configs of a stranger's that would run something, read or write elsewhere, or never end: told in time, nothing run.

Each goes the whole way: files and overrides are composed, the model built on the meta device, the loss tried out, the
callbacks and loggers read. While it does, an audit hook notes what Python is asked to start, write, delete or connect.
"""

import os
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from builder import build
from builder.check import check
from builder.config.compose import compose
from builder.errors import BuilderError
from builder.lang import guard
from builder.model import make
from builder.pipeline import train

SECONDS = 20
"""The most that an attack may take, on a busy machine; most take a tenth of one."""
EVENTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn", "os.startfile",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate", "os.putenv", "shutil.rmtree",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen", "pickle.find_class",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

watching = False
seen: list[str] = []


def _note(event, arguments):
    if not watching:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        if not str(arguments[0]).endswith(".pyc") and "__pycache__" not in str(arguments[0]):
            seen.append(f"open {arguments[0]}")
    elif event == "os.putenv" and arguments[0] == b"CUBLAS_WORKSPACE_CONFIG":
        return  # PyTorch Lightning's `deterministic`
    elif event in EVENTS and not (event == "os.mkdir" and "__pycache__" in str(arguments[0])):
        seen.append(f"{event} {arguments!r:.80}")


sys.addaudithook(_note)


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported(tmp_path_factory):
    """So that no import of the first attack's is taken for its doing."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("warm"))
    check(compose(["model=mlp", "data=iris"]))
    os.chdir(before)


@pytest.fixture
def attack(tmp_path, monkeypatch):
    """Run something in an empty folder; gives what the user is told, and asserts that nothing else happened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T_SECRET", "hunter2")
    monkeypatch.setattr(guard, "MAX_STEPS", 200_000)  # a fiftieth of what it is: the same refusals, sooner
    monkeypatch.setattr(make, "MAX_MODULES", 5_000)

    def run(action):
        global watching
        seen.clear()
        files = sorted(Path(tmp_path).rglob("*"))
        started = time.monotonic()
        watching = True
        try:
            with pytest.raises(BuilderError) as error:
                action()
        finally:
            watching = False
        assert time.monotonic() - started < SECONDS
        assert seen == []
        assert sorted(Path(tmp_path).rglob("*")) == files
        assert not (tmp_path / "SENTINEL").exists()
        assert error.value.exit_code in (1, 2) and str(error.value)
        assert str(error.value).replace("\n", "").isprintable()
        return str(error.value)

    return run


def write(name, text):
    path = Path("configs") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


SMALL = ["data=iris", "logger=null", "callbacks=null", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
FC = "{type: Linear, out_features: 3}"


def model(body, *pre):
    """A model file with a linear layer and this forward."""
    lines = "".join(f"  {line}\n" for line in body.split("\n"))
    return "".join(f"{line}\n" for line in pre) + f"layers:\n  fc: {FC}\nforward: |\n{lines}"


def chain(count, text, end):
    """Blocks B0, B1, … each of which holds the next."""
    blocks = "".join(f"  B{i}: {text.replace('NEXT', f'B{i + 1}')}\n" for i in range(count))
    return f"blocks:\n{blocks}  B{count}: {end}\nlayers: [{FC}, {{type: B0}}]\n"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
BOMB = "args:\n  b0: [x, x, x, x, x, x, x, x, x, x]\n"
for level in range(1, 10):
    BOMB += f"  b{level}: [" + ", ".join(["'${model.args.b%d}'" % (level - 1)] * 10) + "]\n"  # noqa: UP031
BOMB += f"layers: [{FC}]\n"
RUN = "touch SENTINEL"

MODELS = {
    # YAML that makes Python objects
    "apply tag": (f'layers: [!!python/object/apply:os.system ["{RUN}"]]\n', "tags aren't allowed"),
    "name tag": ("layers: [!!python/name:os.system ]\n", "tags aren't allowed"),
    "module tag": ("layers: !!python/module:os {}\n", "tags aren't allowed"),
    "new tag": (f"layers: [!!python/object/new:os.system [{RUN}]]\n", "tags aren't allowed"),
    "tuple tag": ("args: {a: !!python/tuple [1]}\nlayers: [ReLU]\n", "tags aren't allowed"),
    "custom tag": (f"layers: [!Layer {FC}]\n", "tags aren't allowed"),
    "tag by directive": (f'%TAG ! tag:yaml.org,2002:python/object/apply:\n---\nlayers: [!os.system ["{RUN}"]]\n', "tags aren't allowed"),
    "tag on a key": ("!!python/name:os.system x: 1\n", "tags aren't allowed"),
    "merge key": (f"a: &a {FC}\nlayers: [{{<<: *a}}]\n", "merge keys aren't allowed"),
    "laughs": (LAUGHS + "layers: *a11\n", "too many values"),
    "alias of itself": ("layers: &a [*a]\n", "an alias that holds itself"),
    "deep lists": ("layers: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply"),
    "deep mappings": ("layers: " + "{a: " * 3000 + "1" + "}" * 3000 + "\n", "nested too deeply"),
    "huge number": ("layers: [{type: Linear, out_features: " + "9" * 5000 + "}]\n", "too large a number"),
    "infinite": (f"layers: [{{type: Dropout, p: .inf}}, {FC}]\n", "not a finite number"),
    "null byte": ('layers: ["ReLU\\0"]\n', "unknown layer type"),
    "raw control character": ("layers: [\x1b]\n", ""),
    "second document": ("layers: [ReLU]\n---\nlayers: [ReLU]\n", "a second document"),
    # Names of Python objects where the config names its own
    "target": (f"layers: [{{_target_: os.system, _args_: ['{RUN}']}}]\n", "this layer has no type"),
    "target beside type": (f"layers: [{{type: ReLU, _target_: os.system}}, {FC}]\n", "has no argument '_target_'"),
    "target in args": (f"layers: [{{type: ReLU, args: {{_target_: os.system}}}}, {FC}]\n", "has no argument '_target_'"),
    "target at the top": (f"_target_: os.system\nlayers: [{FC}]\n", "unknown key '_target_'"),
    "partial": (f"layers: [{{type: ReLU, _partial_: true}}, {FC}]\n", "has no argument '_partial_'"),
    "class as argument": (f"layers: [{{type: ReLU, __class__: x}}, {FC}]\n", "has no argument '__class__'"),
    "dotted type": (f"layers: [{{type: os.system, command: '{RUN}'}}]\n", "unknown layer type 'os.system'"),
    "dotted class": ("layers: [{type: torch.nn.Linear, out_features: 3}]\n", "unknown layer type 'torch.nn.Linear'"),
    "builtin type": ("layers: [{type: builtins.eval}]\n", "unknown layer type"),
    "plain builtin": ("layers: [eval]\n", "unknown layer type 'eval'"),
    "path as type": ("layers: ['../../etc/passwd']\n", "unknown layer type"),
    "path to a model": ("layers: ['model/../../../etc/passwd']\n", "unknown layer type"),
    "absolute path as type": ("layers: [/etc/passwd]\n", "unknown layer type"),
    "look-alike type": (f"layers: [Ｌinear, {FC}]\n", "unknown layer type"),
    "base class": ("layers: [Module]\n", "unknown layer type"),
    "function as argument": (f"layers: [{FC}, {{type: TransformerEncoderLayer, d_model: 4, nhead: 1, activation: os.system}}]\n", "refuses its arguments"),
    "initialiser": (model("return fc(x) * b", "parameters: {b: {shape: [1], init: eval}}"), "unknown initialiser 'eval'"),
    "dotted initialiser": (model("return fc(x) * b", "parameters: {b: {shape: [1], init: {type: os.system}}}"), "unknown initialiser"),
    "initialiser's argument": (model("return fc(x) * b", "parameters: {b: {shape: [1], init: {type: normal_, std: x}}}"), "can't take this value"),
    "initialiser's tensor": (model("return fc(x) * b", "parameters: {b: {shape: [1], init: {type: normal_, tensor: 1}}}"), "by the builder"),
    "dtype": (model("return fc(x) * b", "parameters: {b: {shape: [1], init: ones_, dtype: save}}"), "unknown dtype 'save'"),
    "input dtype": (f"inputs: {{x: {{dtype: load}}}}\nlayers: [{FC}]\n", "unknown dtype 'load'"),
    # Names that would stand for something of Python's or PyTorch's
    "layer __class__": (f"layers: {{__class__: {FC}}}\n", "can't be the name of a layer"),
    "layer _modules": (f"layers: {{_modules: {FC}}}\n", "can't be the name of a layer"),
    "layer _recipe": (f"layers: {{_recipe: {FC}}}\n", "can't be the name of a layer"),
    "layer forward": (f"layers: {{forward: {FC}}}\n", "can't be the name of a layer"),
    "layer of a stack": (f"layers: {{pop: {FC}}}\n", "can't be the name of a layer"),
    "key of a dict": (f"layers: {{a: {{type: ModuleDict, layers: {{keys: {FC}}}}}}}\nforward: return a['keys'](x)\n", "can't be the name of a layer"),
    "look-alike layer": (f"layers: {{ｆorward: {FC}}}\n", "look-alike"),
    "layer with an escape": (f'layers: {{"\\x1b[2J": {FC}}}\n', "can't be the name of a layer"),
    "arg __class__": (f"args: {{__class__: 1}}\nlayers: [{FC}]\n", "can't be the name of an argument"),
    "look-alike arg": (f"args: {{ｄata: 1}}\nlayers: [{FC}]\n", "Python reads it as 'data'"),
    "keyword": (f"args: {{class: 1}}\nlayers: [{FC}]\n", "can't be the name of an argument"),
    "buffer __dict__": (f"buffers: {{__dict__: [1]}}\nlayers: [{FC}]\n", "can't be the name of a buffer"),
    "look-alike buffer": (f"buffers: {{ｂuffers: [1]}}\nlayers: [{FC}]\n", "look-alike"),
    "input with code": (f'inputs: {{"x, y=__import__(1)": [B, 4]}}\nlayers: [{FC}]\n', "can't be the name of a input"),
    "class with code": (f'name: "M:\\n  pass\\nimport os"\nlayers: [{FC}]\n', "can't be the name of a class"),
    "class that ends the docstring": (f"name: 'M\"\"\"'\nlayers: [{FC}]\n", "can't be the name of a class"),
    "tie to a method": (f"layers: {{fc: {FC}}}\ntie: {{fc.forward: fc.weight}}\n", "to tie"),
    "tie to a class": (f"layers: {{fc: {FC}}}\ntie: {{fc.__class__: fc.weight}}\n", "to tie"),
    # Formulas
    "formula import": ("layers: [{type: Linear, out_features: \"=__import__('os').system('touch SENTINEL')\"}]\n", "only functions can be called"),
    "formula class": ("layers: [{type: Linear, out_features: '=().__class__'}]\n", "attribute '__class__'"),
    "formula data": ("layers: [{type: Linear, out_features: '=data.__class__'}]\n", "underscore"),
    "formula lambda": ("layers: [{type: Linear, out_features: '=(lambda: 3)()'}]\n", "lambda"),
    "formula look-alike": ("layers: [{type: Linear, out_features: '=ｅval(3)'}]\n", "unknown function 'eval'"),
    "formula power": ("layers: [{type: Linear, out_features: '=9**9**9**9'}]\n", "larger than 2**4096"),
    "formula list": ("layers: [{type: Linear, out_features: '=len([0] * 10**12)'}]\n", "longer than"),
    "formula loop": ("layers: [{type: Linear, out_features: '=sum([i for i in range(99999) for j in range(99999)])'}]\n", "longer than"),
    "formula nesting": ("layers: [{type: Linear, out_features: '=" + "(" * 2000 + "1" + ")" * 2000 + "'}]\n", ""),
    "formula default": (f"args: {{a: '=open(\"/etc/passwd\")'}}\nlayers: [{FC}]\n", "unknown function 'open'"),
    "size beyond 64 bits": ("layers: [{type: Linear, out_features: '=2**70'}]\n", "refuses its arguments"),
    "shape beyond memory": (model("return fc(x) + b.sum()", "parameters: {b: {shape: ['=2**62', '=2**62'], init: zeros_}}"), "can't be made"),
    "input beyond memory": (f"inputs: {{x: [B, '=2**62', 64]}}\nlayers: [{FC}]\n", "input 'x'"),
    "input's formula": (f"inputs: {{x: [B, =1 // 0]}}\nlayers: [{FC}]\n", "division by zero"),
    # Models without an end
    "repeat": (f"layers: [{FC}, {{type: Sequential, repeat: 1000000000, layer: ReLU}}]\n", "'repeat' counts copies"),
    "repeat by formula": (f"layers: [{FC}, {{type: Sequential, repeat: =10**4000, layer: ReLU}}]\n", "larger than 2**4096"),
    "repeat of repeats": (f"layers: [{FC}, {{type: Sequential, repeat: 4000, layer: {{type: Sequential, repeat: 4000, layer: ReLU}}}}]\n", "more than 5,000 modules"),
    "negative repeat": (f"layers: [{FC}, {{type: Sequential, repeat: -1, layer: ReLU}}]\n", "'repeat' counts copies"),
    "block of itself": ("blocks: {B: {layers: [{type: B}]}}\nlayers: [{type: B}]\n", "contains itself"),
    "blocks that double": (chain(50, "{layers: [{type: NEXT}, {type: NEXT}]}", "{layers: [ReLU]}"), "layers as written"),
    "blocks that double in forward": (chain(50, '{layers: {a: NEXT, b: NEXT}, forward: "return b(a(x))"}', "{layers: [ReLU]}"), "layers as written"),
    "blocks without a floor": (chain(2000, "{layers: [{type: NEXT}]}", "{layers: [ReLU]}"), "more than 64 deep"),
    # Forward: code
    "import": (model(f"import os\nos.system('{RUN}')\nreturn fc(x)"), "import"),
    "dunder import": (model(f"__import__('os').system('{RUN}')\nreturn fc(x)"), "'__import__'"),
    "subclasses": (model("return ().__class__.__base__.__subclasses__()"), "'__class__'"),
    "open": (model("open('SENTINEL', 'w')\nreturn fc(x)"), "unknown function or layer 'open'"),
    "eval": (model("return eval('fc(x)')"), "unknown function or layer 'eval'"),
    "look-alike eval": (model("return ｅｖａｌ('1')"), "unknown function or layer 'eval'"),
    "getattr": (model("return getattr(x, 'data')"), "unknown function or layer 'getattr'"),
    "globals": (model("return fc.forward.__globals__"), "nn.Module's own"),
    "look-alike dunder": (model("return x.__ｃlass__"), "'__class__'"),
    "storage": (model("return x.untyped_storage()"), "'untyped_storage'"),
    "numpy": (model("return x.numpy().tofile('SENTINEL')"), "'numpy'"),
    "save": (model("save(x, 'SENTINEL')\nreturn fc(x)"), "unknown function or layer 'save'"),
    "load": (model("return load('x')"), "unknown function or layer 'load'"),
    "hook": (model("x.register_hook(fc)\nreturn fc(x)"), "'register_hook'"),
    "module method": (model("fc.register_forward_hook(fc)\nreturn fc(x)"), "'register_forward_hook'"),
    "state": (model("fc.load_state_dict({})\nreturn fc(x)"), "'load_state_dict'"),
    "self": (model("self.__class__ = x\nreturn fc(x)"), "self"),
    "format": (model("return '{0.__class__}'.format(x)"), "'format'"),
    "f-string": (model("return f'{x.__class__}'"), ""),
    "decorator": (model("@fc\ndef f(): pass\nreturn fc(x)"), ""),
    "while": (model("while True: pass\nreturn fc(x)"), "while"),
    "try": (model("try:\n  return fc(x)\nexcept BaseException:\n  return x"), "try"),
    "walrus": (model("return (fc := x)"), ""),
    "forward in a block": (f"blocks: {{B: {{layers: {{a: ReLU}}, forward: 'return a.__class__(x)'}}}}\nlayers: [{FC}, {{type: B}}]\n", "'__class__'"),
    "forward in a layer": (f"layers: [{FC}, {{layers: {{a: ReLU}}, forward: 'exec(1)'}}]\n", "unknown function or layer 'exec'"),
    "value of a buffer": (f"buffers: {{b: {{value: \"__import__('os').system('{RUN}')\"}}}}\nlayers: [{FC}]\n", "'__import__'"),
    "value's attribute": (f"buffers: {{b: {{value: 'zeros(1).__class__'}}}}\nlayers: [{FC}]\n", "'__class__'"),
    # Forward: time and memory
    "long loop": (model("for i in range(10**12):\n  x = x + 1\nreturn fc(x)"), "too many steps"),
    "long loops": (model("for i in range(10**6):\n  for j in range(10**6):\n    n = i\nreturn fc(x)"), "too many steps"),
    "power": (model("y = 10**10**8\nreturn fc(x)"), "too large a number"),
    "power again and again": (model("n = 10\nfor i in range(20):\n  n = n ** n\nreturn fc(x)"), "too large a number"),
    "squares": (model("n = 3\n" + "n = n * n\n" * 60 + "return fc(x)"), "too large a number"),
    "squares in place": (model("n = 3\n" + "n *= n\n" * 60 + "return fc(x)"), "too large a number"),
    "shift": (model("y = 1 << 10**11\nreturn fc(x)"), "too large a number"),
    "long list": (model("y = [0] * 10**10\nreturn fc(x)"), "too many steps"),
    "long list by an arg": (model("y = [0] * n\nreturn fc(x)", "args: {n: 999999999999}"), "too many steps"),
    "doubled list": (model("y = [x]\nfor i in range(60):\n  y = y + y\nreturn fc(x)"), "too many steps"),
    "doubled list, line by line": (model("y = [x]\n" + "y = y + y\n" * 60 + "return fc(x)"), "too many steps"),
    "doubled list by stars": (model("y = [x]\nfor i in range(60):\n  y = [*y, *y]\nreturn fc(x)"), "too many steps"),
    "doubled list by extend": (model("y = [x]\nfor i in range(60):\n  y.extend(y)\nreturn fc(x)"), "too many steps"),
    "doubled list by slices": (model("y = [x]\nfor i in range(60):\n  y[1:1] = y\nreturn fc(x)"), "too many steps"),
    "a list that grows under its loop": (model("y = [x]\nfor i in y:\n  y.append(i)\nreturn fc(x)"), "too many steps"),
    "comprehension": (model("y = sum([i for i in range(10**10)])\nreturn fc(x)"), "too many steps"),
    "sum of a range": (model("y = sum(range(10**12))\nreturn fc(x)"), "too many steps"),
    "zip of ranges": (model("y = list(zip(range(10**12), range(10**12)))\nreturn fc(x)"), "too many steps"),
    "tensor taken apart": (model("y = zeros(10**9).unbind()\nreturn fc(x)"), "too many steps"),
    "tensor unpacked": (model("a, b = zeros(10**9)\nreturn fc(x) + a + b"), "too many steps"),
    "tensor split": (model("y = zeros(10**9).split(1)\nreturn fc(x)"), "too many steps"),
    "loop over a tensor": (model("for i in zeros(10**9):\n  x = x + i\nreturn fc(x)"), "too many steps"),
    "shared tuples": (model("y = (x, x)\nfor i in range(60):\n  y = (y, y)\nz = fc(x)\nreturn {'a': z, 'b': y}"), "too many steps"),
    "deep lists of tensors": (model("y = [x]\nfor i in range(5000):\n  y = [y]\nz = fc(x)\nreturn {'a': z, 'b': y}"), ""),
    "list in itself": (model("y = [x]\ny.append(y)\nz = fc(x)\nreturn {'a': z, 'b': y}"), ""),
    "text as format": (model("n = act % 5\nreturn fc(x)", "args: {act: '%99999999999d'}"), "a text can't be computed with"),
    "value that never ends": (f"buffers: {{b: {{value: '[i for i in range(10**11)]'}}}}\nlayers: [{FC}]\n", "too many steps"),
    "value too large": (f"buffers: {{b: {{value: '10**10**9'}}}}\nlayers: [{FC}]\n", "too large a number"),
    # Interpolations
    "resolver in a model": (f"args: {{a: '${{oc.decode:1}}'}}\nlayers: [{FC}]\n", "the resolver 'oc.decode' isn't allowed"),
    "hydra's resolver": (f"args: {{a: '${{hydra:runtime.cwd}}'}}\nlayers: [{FC}]\n", "the resolver 'hydra' isn't allowed"),
    "resolver create": (f"args: {{a: '${{oc.create:x}}'}}\nlayers: [{FC}]\n", "isn't allowed"),
    "nested resolver": (f"args: {{a: '${{oc.env:${{oc.env:HOME}}}}'}}\nlayers: [{FC}]\n", "not an interpolation"),
    "computed key": (f"args: {{a: '${{${{name}}}}'}}\nlayers: [{FC}]\n", "not an interpolation"),
    "interpolation bomb": (BOMB, "expand to too much"),
    "interpolation circle": (f"args: {{a: '${{model.args.b}}', b: '${{model.args.a}}'}}\nlayers: [{FC}]\n", "leads back to itself"),
    "long chain": ("args:\n" + "".join(f"  c{i}: ${{model.args.c{i + 1}}}\n" for i in range(500)) + f"  c500: 1\nlayers: [{FC}]\n", "too far"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models(attack, name):
    text, said = MODELS[name]
    write("model/m.yaml", text)
    assert said in attack(lambda: check(compose(["model=m", *SMALL])))


HARMLESS_ALONE = {
    "shared tuples",
    "deep lists of tensors",
    "list in itself",
    "interpolation bomb",
    "interpolation circle",
    "long chain",
}
"""What only looking at all outputs finds, and what refers to `model`, which a file alone doesn't have."""


@pytest.mark.parametrize("name", [name for name in MODELS if name not in HARMLESS_ALONE])
def test_models_built_alone(attack, name):
    write("m.yaml", MODELS[name][0])
    attack(lambda: build("configs/m.yaml", data={"num_outputs": 3}, inputs={"x": [2, 4]}))


OVERRIDES = {
    "group outside": (["model=../../x"], "no such choice"),
    "group of another": (["model=../data/iris"], "no such choice"),
    "absolute group": (["model=/etc/passwd"], "no such choice"),
    "null byte in a group": (['model="a\0b"'], "no such choice"),
    "newline in a group": (['model="mlp\n"'], "no such choice"),
    "home": (["model='~/x'"], "no such choice"),
    "interpolated group": (["model=${oc.env:T_SECRET}"], "no such choice"),
    "experiment outside": (["experiment=../model/mlp"], "no such choice"),
    "group outside, added": (["+../x=1"], "not an override"),
    "package outside": (["+model@../x=mlp"], "not an override"),
    "hydra's output": (["hydra.run.dir=/tmp/x"], "can't be given here"),
    "hydra's search path": (["+hydra.searchpath=[pkg://os]"], "can't be given here"),
    "hydra's launcher": (["hydra/launcher=basic"], "can't be given here"),
    "sweep": (["seed=range(0,10)"], "several values"),
    "cast": (["seed=extend_list(1)"], "not an override"),
    "deep override": (["name=" + "[" * 200 + "]" * 200], "nested too deeply"),
    "long override": (["name=" + "x" * 100_000], "too long an override"),
    "resolver": (["description=${oc.decode:'1'}"], "isn't allowed"),
    "target": (["optimizer._target_=os.system"], "has no argument '_target_'"),
    "target at the top": (["+_target_=os.system"], "_target_: unknown key"),
    "name outside": (["name=../../x"], "can't name a run folder"),
    "absolute name": (["name=/tmp/x"], "can't name a run folder"),
    "name with a null byte": (["name='a\0b'"], "can't name a run folder"),
    "name as a folder above": (["name=.."], "can't name a run folder"),
    "hidden name": (["name=.ssh"], "can't name a run folder"),
    "name by the environment": (["name=${oc.env:PATH}"], "can't name a run folder"),
    "output to a null byte": (["output_dir='a\0b'"], "the path of a folder"),
    "no output": (["output_dir=''"], "the path of a folder"),
    "optimizer type": (["optimizer.type=os.system"], "unknown optimizer 'os.system'"),
    "optimizer's parameters": (["optimizer.params=[1]"], "is given its 'params' by the builder"),
    "optimizer hook": (["+optimizer.register_step_post_hook=x"], "has no argument"),
    "scheduler type": (["scheduler={type: builtins.exec}"], "unknown scheduler 'builtins.exec'"),
    "scheduler with a function": (["scheduler={type: LambdaLR, lr_lambda: 'lambda e: 1'}"], "a formula is needed here"),
    "scheduler with a formula out of bounds": (["scheduler={type: LambdaLR, lr_lambda: '=step.__class__'}"], "underscore"),
    "scheduler's formula": (["scheduler={type: StepLR, step_size: '=__import__(1)'}"], "unknown function '__import__'"),
    "data type": (["data.type=sklearn.datasets.fetch_openml"], "unknown dataset"),
    "data by path": (["data.name=../../etc/passwd"], ""),
    "data with a loader": (["+data.loader=os.system"], "has no argument 'loader'"),
    "data without a size": (["data=topics", "model=gpt", "task=language_model", "data.length=1000000000000"], ""),
    "batch without a size": (["data.batch_size=-1"], "data.batch_size"),
    "metric type": (["task.metrics.accuracy.type=os.system"], "unknown metric 'os.system'"),
    "metric of another's network": (["task.metrics.accuracy={type: BERTScore, model_name_or_path: /tmp/x}"], "unknown metric"),
    "metric with a function": (["+task.metrics.accuracy.dist_sync_fn=os.system"], ""),
    "metric beyond memory": (["task.metrics.accuracy={type: MulticlassConfusionMatrix, num_classes: 4000000000}"], "can't be made"),
    "metric's formula": (["task.metrics.accuracy.num_classes='=data.__class__'"], "underscore"),
    "metric's terms": (["+task.metrics.accuracy.of=['output.__class__', target]"], "'__class__'"),
    "metric's name": (["+task.metrics.__class__={type: os.system}"], "unknown metric"),
    "loss": (["task.loss='__import__(\"os\").system(\"touch SENTINEL\")'"], "'__import__'"),
    "loss type": (["task.loss={type: os.system, command: touch SENTINEL}"], "unknown loss 'os.system'"),
    "loss attribute": (["task.loss='output.__class__'"], "'__class__'"),
    "loss graph": (["task.loss='output.grad_fn.next_functions'"], "'grad_fn'"),
    "loss backward": (["task.loss='output.sum().backward()'"], "'backward'"),
    "loss with a function": (["task.loss={type: TripletMarginWithDistanceLoss, distance_function: os.system}"], ""),
    "loss that never ends": (["task.loss='output.sum() * sum([i for i in range(10**11)])'"], "too many steps"),
    "loss too large": (["task.loss='output.sum() * 10**10**9'"], "too large a number"),
    "prediction": (["task.prediction='eval(output)'"], "unknown function or layer 'eval'"),
    "prediction that never ends": (["task.prediction='[output for i in range(10**11)]'"], "too many steps"),
    "monitor": (["task.monitor='__import__(1)'"], "there will be no metric"),
    "callback type": (["+callbacks.a={type: os.system}"], "unknown callback 'os.system'"),
    "callback with a function": (["+callbacks.a={type: LambdaCallback, on_fit_start: os.system}"], "unknown callback"),
    "checkpoints elsewhere": (["+callbacks.a={type: ModelCheckpoint, dirpath: /etc}"], "leads out of the run folder"),
    "checkpoints above": (["+callbacks.a={type: ModelCheckpoint, dirpath: ../../x}"], "leads out of the run folder"),
    "checkpoints by their names": (["+callbacks.a={type: ModelCheckpoint, filename: ../../../x}"], "leads out of the run folder"),
    "checkpoints on failure": (["+callbacks.a={type: OnExceptionCheckpoint, dirpath: /etc}"], "leads out of the run folder"),
    "pruning": (["+callbacks.a={type: ModelPruning, pruning_fn: ../os.system}"], "leads out of the run folder"),
    "logger type": (["+logger.a={type: subprocess.Popen}"], "unknown logger 'subprocess.Popen'"),
    "log elsewhere": (["+logger.a={type: CSVLogger, save_dir: /etc}"], "leads out of the run folder"),
    "log above": (["+logger.a={type: TensorBoardLogger, save_dir: ../../x}"], "leads out of the run folder"),
    "log home": (["+logger.a={type: CSVLogger, save_dir: ~/.ssh}"], ""),
    "log to a file address": (["+logger.a={type: MLFlowLogger, tracking_uri: 'file:/etc'}"], "leads out of the run folder"),
    "trainer's folder": (["trainer.default_root_dir=/etc"], "can't be given here"),
    "trainer's plugins": (["trainer.plugins=[os.system]"], "can't be given here"),
    "trainer's callbacks": (["trainer.callbacks=[os.system]"], "can't be given here"),
    "trainer's profiler": (["trainer.profiler=os.system"], "trainer.profiler: wrong value"),
    "type of a layer": (["model.layers.out.type=os.system"], "unknown layer type 'os.system'"),
    "forward": (["+model.forward='return __import__(1)'"], "'__import__'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides(attack, name):
    overrides, said = OVERRIDES[name]
    assert said in attack(lambda: check(compose(["model=mlp", *SMALL, *overrides])))


FILES = {
    "defaults outside": ("defaults:\n  - /model: ../../../etc/passwd\n  - _self_\n", ""),
    "absolute defaults": ("defaults:\n  - /etc/passwd\n", ""),
    "python in defaults": ("defaults:\n  - model: !!python/name:os.system\n", "tags aren't allowed"),
    "resolver in defaults": ("defaults:\n  - model: ${oc.env:HOME}\n", "only choices can be interpolated here"),
    "defaults of itself": ("defaults:\n  - experiment: e\n", ""),
    "package": ("# @package __class__.x\nseed: 1\n", "not a package"),
    "package with code": ("# @package model[os.system]\nseed: 1\n", "not a package"),
    "imports": ("# @package _global_\nimports: [os]\n", "imports: unknown key"),
    "plugins": ("# @package _global_\ntool: {builder: {imports: [os]}}\n", "tool: unknown key"),
    "hydra": ("# @package _global_\nhydra: {job: {env_set: {A: b}}}\n", "can't be given here"),
    "instantiate": ("# @package _global_\noptimizer: {_target_: os.system}\n", "has no argument '_target_'"),
    "name": ("# @package _global_\nname: ../../x\n", "can't name a run folder"),
    "logger": ("# @package _global_\nlogger: {a: {type: CSVLogger, save_dir: /etc}}\n", "leads out of the run folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_experiments(attack, name):
    text, said = FILES[name]
    write("experiment/e.yaml", text)
    assert said in attack(lambda: check(compose(["model=mlp", *SMALL, "experiment=e"])))


def test_blocks_of_the_library(attack):
    write("block/Bad.yaml", "layers: {a: ReLU}\nforward: return a.__class__(x)\n")
    write("model/m.yaml", f"layers: [{FC}, Bad]\n")
    assert "'__class__'" in attack(lambda: check(compose(["model=m", *SMALL])))
    write("block/Bad.yaml", "layers: ['${oc.env:T_SECRET}']\n")
    assert "an interpolation in a block" in attack(lambda: check(compose(["model=m", *SMALL])))


def test_resolvers_that_the_process_knows_are_not_run(attack):
    OmegaConf.register_new_resolver("t_run", lambda: Path("SENTINEL").touch())
    try:
        write("model/m.yaml", "layers: ['${t_run:}']\n")
        assert "the resolver 't_run' isn't allowed" in attack(lambda: check(compose(["model=m", *SMALL])))
        assert "isn't allowed" in attack(lambda: build("configs/model/m.yaml"))
        assert "isn't allowed" in attack(lambda: compose(["model=mlp", "description=${t_run:}"]))
    finally:
        OmegaConf.clear_resolver("t_run")


def test_a_secret_is_not_told(attack):
    for override in ["optimizer.type", "data.batch_size", "trainer.precision", "task.monitor", "name"]:
        value = "'../${oc.env:T_SECRET}'" if override == "name" else "${oc.env:T_SECRET}"
        said = attack(lambda: check(compose(["model=mlp", *SMALL, f"{override}={value}"])))  # noqa: B023
        assert override == "name" or "batch" not in override or "hunter2" not in said


def test_training_refuses_as_checking_does(attack):
    for override in ["name=../../x", "+logger.a={type: CSVLogger, save_dir: /etc}", "output_dir='a\0b'"]:
        attack(lambda: train(compose(["model=mlp", *SMALL, override])))  # noqa: B023


def test_the_guard_sees_what_an_attack_would_do(tmp_path, monkeypatch):
    """The proof that nothing ran is one only if it would have been seen."""
    global watching
    monkeypatch.chdir(tmp_path)
    seen.clear()
    watching = True
    os.system("true")
    Path("SENTINEL").touch()
    os.remove("SENTINEL")
    watching = False
    assert [text.split(" ")[0] for text in seen] == ["os.system", "open", "os.remove"]
