"""PyTorch reads a function's file as Python; a model's is YAML, whatever its indentation."""

import subprocess
import sys
import textwrap

import pytest

MODEL = """\
inputs: {x: [B, 4]}
init:
- select:
    type: Linear
  weight: zeros_
layers:
  fc: {type: Linear, out_features: 4}
forward: return fc(x) + 1
"""


@pytest.mark.parametrize(
    "before", ["", "import torch._dynamo", "torch.compile(torch.nn.ReLU(), backend='eager')(torch.ones(1))"]
)
def test_a_model_is_compiled_whose_file_is_no_python(tmp_path, before):
    (tmp_path / "model.yaml").write_text(MODEL)
    code = f"""
        import torch
        {before}
        import builder
        model = builder.build("model.yaml")
        x = torch.ones(2, 4)
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr


def test_the_private_part_that_is_changed_is_there():
    from torch._dynamo import funcname_cache

    import builder.model.classes  # noqa: F401

    assert funcname_cache._add_file.tolerant and isinstance(funcname_cache.cache, dict)
