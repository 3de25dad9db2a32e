"""Gathers a phase in one of two processes: `python phase_ddp.py RANK STORE OUT`; run by test_phase_ddp.py."""

import sys
from datetime import timedelta

import torch
from torch import distributed

from builder.config.origin import Origins
from builder.data.facts import Facts, TensorFact
from builder.training.phase import Phase
from builder.training.task import read_task

SIZES = (8, 8, 4)
SECTION = {
    "loss": {"classes": "cross_entropy(output, target)", "size": {"loss": "output.square().mean()", "weight": 0.5}},
    "metrics": {
        "accuracy": {"type": "MulticlassAccuracy", "num_classes": 3, "average": "micro"},
        "auroc": {"type": "MulticlassAUROC", "num_classes": 3},
    },
}


def gathered(rank, world_size):
    """The values of two epochs, of one rank's part of each batch; the second rank has none of the last."""
    facts = Facts({}, {"x": TensorFact((3,), "float32"), "target": TensorFact((), "int64")})
    task = read_task(SECTION, facts, {"x": True}, Origins())
    phase, found = Phase("val", task), []
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        phase.reset()
        for index, size in enumerate(SIZES):
            output = torch.randn(size, 3, generator=generator)
            target = torch.randint(3, (size,), generator=generator)
            part = slice(rank, None, world_size)
            if index == 2 and world_size == 2:
                part = slice(None) if rank == 0 else slice(0)
            if len(output[part]):
                values = task.names({"x": output[part], "target": target[part]}, output[part])
                phase.add(task.loss.function(values), values, len(output[part]))
        found.append(phase.compute())
    return found


def main(rank, store, out):
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=100)
    )
    torch.save(gathered(rank, 2), out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
