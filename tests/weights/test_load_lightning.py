import pytest
import pytorch_lightning as pl
import torch
from load_helpers import only, same_bits
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader


class Module(pl.LightningModule):
    """As ours: the model under `model`, the loss under `criterion`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model, self.criterion = nn.Linear(2, 2), nn.CrossEntropyLoss(torch.ones(2))

    def training_step(self, batch, batch_idx):
        return self.criterion(self.model(batch), torch.zeros(len(batch), dtype=torch.int64))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The module after training, its average before the last copy, and the checkpoint that was written while training."""
    folder, module, seen = tmp_path_factory.mktemp("lightning"), Module(), {}
    average = EMAWeightAveraging(decay=0.5)

    class Look(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            seen["raw"] = {name: value.clone() for name, value in module.model.state_dict().items()}
            seen["ema"] = {
                name: value.clone() for name, value in average._average_model.module.model.state_dict().items()
            }

    checkpoint = ModelCheckpoint(folder, filename="last", save_weights_only=False)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[average, Look(), checkpoint], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.rand(8, 2), batch_size=2))
    return folder / "last.ckpt", seen


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("weights", [None, "raw", "ema"])
def test_of_a_checkpoint_that_lightning_averaged_raw_or_ema_weights_are_taken(trained, weights):
    path, seen = trained
    assert not torch.equal(seen["raw"]["weight"], seen["ema"]["weight"])
    model = nn.Linear(2, 2)
    report = only(model, {"path": str(path), **({"weights": weights} if weights else {})})
    same_bits(model, seen[weights or "raw"])
    said = "the EMA weights" if weights == "ema" else "the raw weights; 'weights: ema' takes their average"
    assert report.format == "a checkpoint of Lightning" and said in report.notes
    assert "left out, being the loss's: criterion.weight" in report.notes
