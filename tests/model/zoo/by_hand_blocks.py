"""The shipped blocks as an expert writes them by hand."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvNormAct(nn.Sequential):
    def __init__(self, in_channels, channels, kernel_size=3, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()


class MLP(nn.Sequential):
    def __init__(self, features, hidden, outputs, dropout=0.0):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, outputs)
        self.drop2 = nn.Dropout(dropout)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x):
        gate = self.fc2(F.relu(self.fc1(x.mean(dim=[2, 3], keepdim=True))))
        return x * torch.sigmoid(gate)


class Branches(nn.Module):
    def __init__(self, in_channels, channels, kernel_sizes=(1, 3, 5)):
        super().__init__()
        self.branches = nn.ModuleList([ConvNormAct(in_channels, channels, size) for size in kernel_sizes])

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Residual(nn.Module):
    """torchvision's BasicBlock."""

    expansion = 1

    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class Bottleneck(nn.Module):
    """torchvision's Bottleneck."""

    expansion = 4

    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != 4 * channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, 4 * channels, 1, stride, bias=False), nn.BatchNorm2d(4 * channels)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)


class InvertedResidual(nn.Module):
    """torchvision's block of MobileNetV2."""

    def __init__(self, in_channels, channels, stride=1, expansion=6):
        super().__init__()
        hidden = expansion * in_channels
        layers = []
        if expansion != 1:
            layers.append(self.conv_norm_act(in_channels, hidden, 1))
        layers += [
            self.conv_norm_act(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == channels

    @staticmethod
    def conv_norm_act(in_channels, channels, kernel_size, stride=1, groups=1):
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
        )

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class UNetDown(nn.Sequential):
    def __init__(self, in_channels, channels):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv1 = ConvNormAct(in_channels, channels)
        self.conv2 = ConvNormAct(channels, channels)


class UNetUp(nn.Module):
    def __init__(self, in_channels, skip_channels, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.conv1 = ConvNormAct(channels + skip_channels, channels)
        self.conv2 = ConvNormAct(channels, channels)

    def forward(self, x, skip):
        return self.conv2(self.conv1(torch.cat([skip, self.up(x)], dim=1)))
