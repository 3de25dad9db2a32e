"""Run folders as training leaves them, made in no time."""

import json

CONFIG = """name: {name}
seed: {seed}
output_dir: outputs
model:
  args: {{width: 8}}
  layers:
    fc: {{type: Linear, out_features: =width}}
    act: ReLU
task:
  loss: mse_loss(output, target)
  monitor: val/loss
  mode: min
optimizer:
  type: AdamW
  lr: {lr}
scheduler: null
callbacks:
  best: {{type: ModelCheckpoint, monitor: '${{task.monitor}}'}}
"""


def make_run(
    root, name="exp", run="2026-01-02_03-04-05_ab12cd34", *, config=None, lr=0.1, seed=0, loss=0.5, csv=None, **status
):
    """A finished run of `outputs`-like `root`, with what `status.json` says changed by `status`."""
    folder = root / name / run
    folder.mkdir(parents=True)
    metrics = {} if loss is None else {"val/loss": loss, "test/loss": loss * 1.1}
    date, time = run.split("_")[:2]
    written = {
        "state": "finished", "started": f"{date}T{time.replace('-', ':')}.000+00:00", "command": ["builder", "train"],
        "host": "elsewhere", "pid": 1, "boot": None, "ticks": None, "ended": None, "seconds": 12.5, "reason": None,
        "epoch": 2, "step": 20, "metrics": metrics, **status,
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(written))
    (folder / "config.yaml").write_text(CONFIG.format(name=name, seed=seed, lr=lr) if config is None else config)
    if csv is not None:
        (folder / "metrics.csv").write_text(csv)
    return folder
