"""Saving and resuming by Lightning's own path, and clipping: what goes through the optimiser's hooks there."""

import pytest
import pytorch_lightning as pl
import torch
from optim_helpers import build, same, vit, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from builder.config.origin import Origins
from builder.optim.scheduler import build_scheduler
from builder.training.checkpoint import CheckpointFile
from builder.training.quiet import quiet_lightning

MUON = {
    "type": "Muon", "lr": 0.02,
    "groups": [{"name": "rest", "select": [{"ndim": 1}, "stem", "token", "head"], "type": "AdamW", "lr": 3e-3}],
}  # fmt: skip
ADAM = {"type": "AdamW", "lr": 0.01, "groups": [{"name": "head", "select": "head", "lr": 0.1}], "no_decay": {"ndim": 1}}


class Fitting(pl.LightningModule):
    def __init__(self, model, section):
        super().__init__()
        self.model, self.section = model, section

    def training_step(self, batch, index):
        return self.model(batch[0]).square().mean()

    def configure_optimizers(self):
        optimizer = build(self.model, **self.section)
        schedule = build_scheduler(
            optimizer, {"type": "WarmupCosine", "warmup": 3}, Origins(), steps={"max_epochs": 16, "total_steps": 16}
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule.scheduler, "interval": "step"}}


def fit(section, epochs, tmp_path, start=None, model=None):
    module = Fitting(model or vit(), section)
    data = DataLoader(TensorDataset(torch.randn(16, 3, generator=torch.Generator().manual_seed(0))), batch_size=4)
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", gradient_clip_val=0.1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, plugins=[CheckpointFile()],
        )  # fmt: skip
        trainer.fit(module, data, ckpt_path=start, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
    return module.model, trainer


@pytest.mark.parametrize("section", [MUON, ADAM])
def test_a_training_that_lightning_resumes_ends_with_the_same_bits(section, tmp_path):
    whole, _ = fit(section, 4, tmp_path)
    fit(section, 2, tmp_path)
    resumed, trainer = fit(section, 4, tmp_path, tmp_path / "2.ckpt")
    assert trainer.global_step == 16 and same(weights(whole), weights(resumed))


def test_a_training_that_lightning_resumes_with_other_groups_keeps_moments_and_rates(tmp_path):
    fit(ADAM, 2, tmp_path)
    groups = [{"name": "stem", "select": "stem", "lr": 0.5}, *ADAM["groups"]]
    _, trainer = fit({**ADAM, "groups": groups}, 3, tmp_path, tmp_path / "2.ckpt", vit(stem_last=True))
    (optimizer,) = trainer.optimizers
    assert {float(state["step"]) for state in optimizer.state.values()} == {12.0}
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["head"] == pytest.approx(10 * rates["default"]) == pytest.approx(0.2 * rates["stem"])


def test_fused_groups_can_be_clipped_under_a_gradient_scaler():
    """What Lightning does in mixed precision with float16; an optimiser made with `fused=True` can't."""
    ours, theirs = vit(), vit()
    models = {ours: build(ours, type="AdamW", lr=0.1), theirs: build(theirs, type="AdamW", lr=0.1)}
    for group in models[ours].param_groups:
        group["fused"] = True
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7)
    for _ in range(4):
        for model, optimizer in models.items():
            optimizer.zero_grad()
            loss = model(torch.ones(2, 3)).square().mean()
            scaled = scaler.scale(loss) if model is ours else loss
            scaled.backward()
            if model is ours:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            if model is ours:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
