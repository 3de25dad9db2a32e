"""Two processes report the losses, terms and metrics of all samples, as one does."""

import subprocess
import sys
from pathlib import Path

import phase_ddp
import torch


def test_two_processes_report_what_one_does(tmp_path):
    script = Path(phase_ddp.__file__)
    outs = [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    started = [
        subprocess.Popen(
            [sys.executable, script, str(rank), tmp_path / "store", out], stderr=subprocess.PIPE, text=True
        )
        for rank, out in enumerate(outs)
    ]
    told = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    first, second = (torch.load(out) for out in outs)
    for ours, theirs, alone in zip(first, second, phase_ddp.gathered(0, 1), strict=True):
        assert list(ours) == ["val/loss", "val/loss_classes", "val/loss_size", "val/accuracy", "val/auroc"]
        torch.testing.assert_close(ours, alone)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
