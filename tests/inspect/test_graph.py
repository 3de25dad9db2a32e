"""What `show graph` draws: traced flow, what repeats, marks, rows, and the files."""

import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from inspect_helpers import explored, shipped

from builder.config.origin import Origins
from builder.inspect.graph import dot
from builder.inspect.graph.draw import draw
from builder.inspect.graph.layout import lay_out
from builder.inspect.graph.level import labels
from builder.inspect.graph.marks import frozen_words
from builder.inspect.graph.page import page
from builder.inspect.graph.png import png
from builder.inspect.graph.rows import rows_of
from builder.inspect.graph.svg import svg
from builder.inspect.graph.trace import Tracer
from builder.model.infer import rerun
from builder.weights.freeze import read_freeze, resolve
from command_line import run

sys.path.append(str(Path(__file__).parents[1] / "model" / "zoo"))
from zoo_cases import CASES, FACTS

RESIDUAL = """
    inputs: {x: [B, 16]}
    layers:
      first: {type: Linear, out_features: 16}
      act: ReLU
    forward: |
      y = act(first(x))
      return cat([x + y, y], dim=1)
"""
STACK = """
    args: {depth: 5}
    inputs: {x: [B, 16]}
    blocks:
      Block:
        layers: {fc: {type: Linear, out_features: 16}}
        forward: return x + fc(x)
    layers:
      body: {type: ModuleList, repeat: =depth, layer: Block}
    forward: |
      for block in body:
        x = block(x)
      return x
"""
DOT = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz isn't installed")


def drawn(text, **more):
    return draw(*explored(text, **more))


def zoo(name):
    case = CASES[name]
    with torch.random.fork_rng():
        inputs = dict(zip(case.names, case.make(), strict=True))
    examples = {key: (tuple(value.shape), str(value.dtype)[6:]) for key, value in inputs.items()}
    return shipped(name, given=case.args, data=FACTS, examples=examples), case, inputs


def names_of(level):
    return [(block.kind, block.name) for block in level.blocks]


def wired(level):
    return {
        (level.blocks[one].name, level.blocks[other].name): text for (one, other), text in labels(level.wires).items()
    }


def every_block(level):
    for block in level.blocks:
        yield block
        if block.inside is not None:
            yield from every_block(block.inside)


def test_a_residual_and_a_concatenation_are_drawn_with_their_shapes():
    level = drawn(RESIDUAL).level
    assert wired(level) == {
        ("x", "first"): "[B, 16]",
        ("first", "act"): "[B, 16]",
        ("x", "add"): "[B, 16]",
        ("act", "add"): "[B, 16]",
        ("add", "cat"): "[B, 16]",
        ("act", "cat"): "[B, 16]",
        ("cat", "output"): "[B, 32]",
    }


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_trace_has_the_calls_and_shapes_that_hooks_hear_in_a_real_run(name):
    (_definition, found), case, inputs = zoo(name)
    tracer = Tracer(found.model, list(found.inputs))
    rerun(found, found.inputs, tracer)
    traced = []

    def walk(level):
        for item in level.items:
            if item.kind == "module":
                if item.inside is not None:
                    walk(item.inside)
                traced.append((item.path, [tuple(shape) for shape in item.shapes]))

    walk(tracer.root)
    heard = []
    model = case.build(name)
    for path, module in model.named_modules():
        if path:
            module.register_forward_hook(
                lambda module, args, output, path=path: heard.append((path, [tuple(t.shape) for t in flat(output)]))
            )
    model(*inputs.values())
    assert traced == heard


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for item in values for tensor in flat(item)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_shipped_model_is_drawn_connected_and_without_boxes_over_each_other(name):
    (definition, found), _, _ = zoo(name)
    drawing = draw(definition, found)
    assert {block.name for block in drawing.level.blocks if block.kind == "input"} == set(found.inputs)
    joined = {wire.target for wire in drawing.level.wires}
    assert all(index in joined for index, block in enumerate(drawing.level.blocks) if block.kind == "output")
    for depth in (1, 3):
        picture = lay_out(drawing, depth)
        boxes = picture.boxes
        for index, one in enumerate(boxes):
            assert 0 <= one.x and one.x + one.width <= picture.width and one.y + one.height <= picture.height
            for other in boxes[index + 1 :]:
                assert apart(one, other) or inside(one, other), (one, other)
        assert all(line.points[0][1] < line.points[-1][1] for line in picture.lines)
        ElementTree.fromstring(svg(drawing, depth, graphviz=False))


def apart(one, other):
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def inside(outer, inner):
    return (
        outer.kind == "open"
        and outer.x <= inner.x
        and inner.x + inner.width <= outer.x + outer.width
        and outer.y <= inner.y
        and inner.y + inner.height <= outer.y + outer.height
    )


def test_blocks_that_follow_each_other_and_are_alike_are_drawn_once():
    level = drawn(STACK).level
    assert names_of(level) == [("input", "x"), ("module", "body.0–4"), ("output", "output")]
    assert level.blocks[1].title == "Block × 5"
    assert wired(level.blocks[1].inside)["", "add"] == "[B, 16]"


@pytest.mark.parametrize(
    "change",
    [
        ("x = block(x)", "x = block(x)\n        kept = x\n      x = x + kept"),
        ("for block in body:", "kept = body[1](x)\n      x = x + kept\n      for block in body:"),
    ],
)
def test_a_wire_out_of_the_middle_of_a_row_of_copies_still_shows(change):
    level = drawn(STACK.replace(*change)).level
    ends = {pair for pair in wired(level) if "add" in pair}
    assert ends and all(0 <= wire.source < wire.target < len(level.blocks) for wire in level.wires)


def test_copies_of_which_one_gives_something_away_are_drawn_apart():
    text = STACK.replace("x = block(x)\n      return x", "x = block(x)\n      return x").replace(
        "      for block in body:\n        x = block(x)\n      return x",
        "      a = body[0](x)\n      b = body[1](a)\n      c = body[2](b)\n      return body[4](body[3](c)) + a",
    )
    assert [name for kind, name in names_of(drawn(text).level) if kind == "module"] == ["body.0", "body.1–4"]


def test_copies_with_other_parameters_are_drawn_apart():
    text = """
        inputs: {x: [B, 8]}
        layers: [{type: Linear, out_features: 8}, {type: Linear, out_features: 8}, {type: Linear, out_features: 9}]
    """
    assert [name for kind, name in names_of(drawn(text).level) if kind == "module"] == ["0–1", "2"]


def test_shared_tied_and_frozen_parts_are_marked():
    text = """
        inputs: {first: [B, 8], second: [B, 8]}
        layers:
          encoder: {type: Linear, out_features: 8}
          other: {type: Linear, out_features: 8}
          act: ReLU
        tie: {other.weight: encoder.weight}
        forward: return other(act(encoder(first)) + act(encoder(second)))
    """
    definition, found = explored(text)
    plan = resolve(read_freeze({"select": "encoder", "until": {"epoch": 2}}, Origins({})), found.model)
    level = draw(definition, found, frozen_words(found.model, plan)).level
    marks = [(block.name, block.marks) for block in level.blocks if block.kind == "module"]
    assert [mark for mark in marks if mark[0] == "encoder"] == [
        ("encoder", ("shared: call 1 of 2", "frozen until epoch 2")),
        ("encoder", ("shared: call 2 of 2", "frozen until epoch 2")),
    ]
    assert ("act", ()) in marks, "what has no parameters shares nothing"
    (other,) = (block for block in level.blocks if block.name == "other")
    assert "weight is encoder.weight" in other.details


def test_what_a_model_gives_by_name_is_drawn_by_name_and_parameters_that_functions_take_are_drawn():
    text = """
        inputs: {x: [B, T, 8]}
        parameters: {scale: {shape: [8], init: ones_}}
        buffers: {seen: {shape: []}}
        layers: {lstm: {type: LSTM, hidden_size: 4, batch_first: true}}
        forward: |
          seen = seen + 1
          y, (h, c) = lstm(x * scale)
          return {"all": y, "last": h}
    """
    level = drawn(text).level
    assert wired(level) == {
        ("x", "mul"): "[B, T, 8]",
        ("scale", "mul"): "[8]",
        ("mul", "lstm"): "[B, T, 8]",
        ("lstm", "all"): "[B, T, 4]",
        ("lstm", "last"): "[1, B, 4]",
    }
    assert ("tensor", "seen") not in names_of(level), "what leads nowhere isn't drawn"


def test_a_layer_that_gives_its_input_back_stands_on_its_own_path_only():
    text = """
        inputs: {x: [B, 8]}
        layers: {same: Identity, fc: {type: Linear, out_features: 8}}
        forward: return fc(same(x)) + x
    """
    assert set(wired(drawn(text).level)) == {
        ("x", "same"),
        ("same", "fc"),
        ("fc", "add"),
        ("x", "add"),
        ("add", "output"),
    }


def test_a_model_that_cannot_be_run_is_drawn_without_wires_and_says_so():
    text = """
        inputs: [x]
        layers: {body: {type: Sequential, layers: [{type: Linear, in_features: 3, out_features: 4}, ReLU]}}
    """
    drawing = drawn(text)
    assert "can't be run" in drawing.notes[0]
    assert [block.name for block in every_block(drawing.level)] == ["body", "0", "1"]
    for graphviz in (False, *([True] if dot.is_there() else [])):
        assert "Sequential" in svg(drawing, 2, graphviz=graphviz)


def test_rows_are_ordered_without_crossings_where_that_can_be():
    text = """
        inputs: {a: [B, 4], b: [B, 4]}
        layers:
          one: {type: Linear, out_features: 4}
          two: {type: Linear, out_features: 4}
        forward: |
          y = two(b)
          x = one(a)
          return x, y
    """
    level = drawn(text).level
    rows = [[level.blocks[node].name for node in row] for row in rows_of(level).rows]
    assert rows[1] == ["one", "two"] and rows[2] == ["0", "1"]


STRANGE = '<b>&amp; "\\N\\"'


def strange():
    return drawn(f"""
        inputs: {{x: [B, 4]}}
        layers: {{fc: {{type: Linear, out_features: 4}}}}
        forward: |
          return {{{STRANGE!r}: fc(x)}}
    """)


@pytest.mark.parametrize("graphviz", [False, pytest.param(True, marks=DOT)])
def test_names_are_escaped_in_svg(graphviz):
    root = ElementTree.fromstring(svg(strange(), graphviz=graphviz))
    assert STRANGE in [element.text for element in root.iter() if element.tag.endswith("text")]
    assert not [element for element in root.iter() if element.tag.endswith("}b")]


def test_a_page_has_every_block_and_fetches_nothing():
    drawing = drawn(STACK)
    text = page(drawing, 1)
    assert "Block × 5" in text and text.count('class="box function"') == 1 and ' is-open"' not in text
    assert ' is-open"' in page(drawing, 2)
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert "<link" not in text and "src=" not in text and "@import" not in text
    assert "<b>" not in page(strange()) and "&lt;b&gt;&amp;amp;" in page(strange())


@pytest.mark.parametrize("graphviz", [False, pytest.param(True, marks=DOT)])
def test_depth_opens_blocks(graphviz):
    drawing = drawn(STACK)
    closed, opened = (svg(drawing, depth, graphviz=graphviz) for depth in (1, 2))
    assert ">add<" not in closed and ">add<" in opened
    assert ">output<" in closed and ">output<" not in svg(drawing, 0, graphviz=graphviz)


@pytest.mark.parametrize("graphviz", [False, pytest.param(True, marks=DOT)])
def test_a_png_is_a_picture(graphviz):
    import io

    from matplotlib.image import imread

    picture = imread(io.BytesIO(png(drawn(RESIDUAL), graphviz=graphviz)))
    assert picture.shape[0] > picture.shape[1] > 100 and picture.std() > 0.01


@DOT
def test_graphviz_leads_wires_through_a_block_that_gives_its_input_back():
    text = """
        inputs: {x: [B, 4]}
        blocks:
          Same:
            layers: {fc: {type: ReLU, unused: true}}
            forward: return x
        layers: {first: ReLU, same: Same, last: ReLU}
    """
    ends = re.findall(r"(n\w+) -> (n\w+)", dot.text(drawn(text), 2))
    assert len(ends) == 3
    following = dict(ends)
    (start,) = set(following) - set(following.values())
    assert following[following[following[start]]] not in following


def test_the_command_writes_what_the_name_of_the_file_says(tmp_path):
    (tmp_path / "m.yaml").write_text(re.sub(r"(?m)^    ", "", STACK))
    for name, start in (("a.svg", b"<svg"), ("a.html", b"<!doctype"), ("a.dot", b"digraph"), ("a.png", b"\x89PNG")):
        ran = run(tmp_path, "show", "graph", "m.yaml", "-o", name, "--depth", "2")
        assert (ran.code, ran.out, ran.err) == (0, f"{name}\n", "")
        assert (tmp_path / name).read_bytes().startswith(start)


def test_the_command_refuses_other_files(tmp_path):
    (tmp_path / "m.yaml").write_text(re.sub(r"(?m)^    ", "", STACK))
    ran = run(tmp_path, "show", "graph", "m.yaml", "-o", "a.svgg")
    assert ran.code == 2 and "did you mean '.svg'?" in ran.err
    ran = run(tmp_path, "show", "graph", "m.yaml", "-o", "there/a.svg")
    assert ran.code == 2 and "there is no folder 'there'" in ran.err
