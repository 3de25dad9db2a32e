"""What came from the environment is saved as the reference, never as the value."""

import yaml

from builder.runs.status import status
from command_line import SMALL, run

SECRET = "hunter2-and-more"
REFERENCE = "${oc.env:PLANTED}"


def holders(folder):
    """The files that hold the secret, in any form that a program would write it in."""
    forms = [SECRET.encode(encoding) for encoding in ("utf-8", "utf-16-le")]
    return [
        str(path) for path in folder.rglob("*") if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


def test_a_secret_of_the_environment_is_in_no_file_of_the_run(tmp_path):
    (tmp_path / "configs/model").mkdir(parents=True)
    model = {
        "description": REFERENCE,
        "args": {"note": REFERENCE, "again": "=note", "hidden": 16},
        "inputs": ["x"],
        "layers": {"flatten": "Flatten", "out": {"type": "Linear", "out_features": 10}},
    }
    (tmp_path / "configs/model/mine.yaml").write_text(yaml.safe_dump(model, sort_keys=False))
    words = [f"+description={REFERENCE}", "+model.layers.out.bias=true"]
    ran = run(tmp_path, "train", *SMALL[2:], "model=mine", *words, env={"PLANTED": SECRET})
    assert (ran.code, ran.err.count("error")) == (0, 0)
    assert holders(tmp_path) == []
    config = yaml.safe_load((ran.run / "config.yaml").read_text())
    assert config["description"] == config["model"]["description"] == config["model"]["args"]["note"] == REFERENCE
    saved = yaml.safe_load((ran.run / "model.yaml").read_text())
    assert saved["args"] == {"note": REFERENCE, "again": "=note", "hidden": 16}
    assert saved["layers"]["out"]["in_features"] == 64
    assert REFERENCE in (ran.run / "overrides.txt").read_text()
    assert not (ran.run / "model.py").exists()  # code has no references


def test_the_value_is_used_all_the_same(tmp_path):
    ran = run(tmp_path, "train", *SMALL, "output_dir=${oc.env:PLANTED}", env={"PLANTED": "elsewhere"})
    assert ran.code == 0 and ran.run.is_relative_to(tmp_path / "elsewhere")
    assert status(ran.run).state == "finished"
    assert "output_dir: ${oc.env:PLANTED}\n" in (ran.run / "config.yaml").read_text()


def test_a_variable_that_no_config_names_is_nowhere(tmp_path):
    ran = run(tmp_path, "train", *SMALL, env={"UNNAMED_SECRET": SECRET})
    assert ran.code == 0 and holders(tmp_path) == []
