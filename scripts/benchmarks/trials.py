"""What 16 trials of the digits MLP are made of: importable, since a compiler looks its names up."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """The shipped `mlp` on digits, without dropout."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, hidden), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.relu(self.second(functional.relu(self.first(x)))))


class Loss:
    parts: dict[str, object] = {}

    @staticmethod
    def function(values: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(values["output"], values["target"])


class DigitsTask:
    """As much of a task as a step needs."""

    loss = Loss

    @staticmethod
    def arguments(batch: dict[str, Tensor]) -> list[Tensor]:
        return [batch["x"]]

    @staticmethod
    def names(batch: dict[str, Tensor], output: Tensor) -> dict[str, Tensor]:
        return {**batch, "output": output}
