"""The shipped models that follow no library, as an expert writes them by hand."""

import torch
import torch.nn.functional as F
from by_hand_blocks import MLP, Bottleneck, ConvNormAct, Residual, UNetDown, UNetUp
from torch import nn


class ResNet(nn.Module):
    """torchvision's ResNet, with PyTorch's own initial weights."""

    def __init__(self, block, depths, width=64, classes=1000, in_channels=3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride))
                channels = width * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(**args):
    return ResNet(Residual, [2, 2, 2, 2], **args)


def resnet50(**args):
    return ResNet(Bottleneck, [3, 4, 6, 3], **args)


class UNet(nn.Module):
    def __init__(self, in_channels=3, width=64, depth=4, classes=10):
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", ConvNormAct(in_channels, width))
        self.stem.add_module("conv2", ConvNormAct(width, width))
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList([UNetDown(widths[i], widths[i + 1]) for i in range(depth)])
        self.up = nn.ModuleList([UNetUp(widths[i + 1], widths[i], widths[i]) for i in reversed(range(depth))])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        x = self.stem(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        for block in self.up:
            x = block(x, skips.pop())
        return self.head(x)


class LstmTagger(nn.Module):
    def __init__(self, vocab, tags, width=100, hidden=256, depth=2, dropout=0.5):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTM(
            width, hidden, depth, batch_first=True, bidirectional=True, dropout=dropout if depth > 1 else 0.0
        )
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, ids):
        x, _ = self.lstm(self.drop(self.embed(ids)))
        return self.head(self.drop(x))


def named(**layers):
    stack = nn.Sequential()
    for name, layer in layers.items():
        stack.add_module(name, layer)
    return stack


class Autoencoder(nn.Module):
    def __init__(self, features, hidden=(256, 64), code=16):
        super().__init__()
        self.flatten = nn.Flatten()
        self.encoder = self.stack([features, *hidden], code)
        self.decoder = self.stack([code, *reversed(hidden)], features)

    @staticmethod
    def stack(widths, outputs):
        steps = [named(linear=nn.Linear(a, b), act=nn.ReLU()) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        return named(body=nn.Sequential(*steps), out=nn.Linear(widths[-1], outputs))

    def forward(self, x):
        return self.decoder(self.encoder(self.flatten(x))).view_as(x)


class Vae(nn.Module):
    def __init__(self, features, hidden=256, code=16):
        super().__init__()
        self.flatten = nn.Flatten()
        self.encoder = named(linear=nn.Linear(features, hidden), act=nn.ReLU())
        self.mean = nn.Linear(hidden, code)
        self.logvar = nn.Linear(hidden, code)
        self.decoder = MLP(code, hidden, features)

    def forward(self, x):
        h = self.encoder(self.flatten(x))
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean
        if self.training:
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return {"x": self.decoder(z).view_as(x), "mean": mean, "logvar": logvar}


class Multitask(nn.Module):
    def __init__(self, features, hidden=128, depth=2, dropout=0.1, classes=10):
        super().__init__()
        steps = [
            named(linear=nn.Linear(features if i == 0 else hidden, hidden), act=nn.ReLU(), drop=nn.Dropout(dropout))
            for i in range(depth)
        ]
        self.trunk = named(flatten=nn.Flatten(), body=nn.Sequential(*steps))
        self.heads = nn.ModuleDict({"classes": nn.Linear(hidden, classes), "value": nn.Linear(hidden, 1)})

    def forward(self, x):
        h = self.trunk(x)
        return {"classes": self.heads["classes"](h), "value": self.heads["value"](h).squeeze(-1)}


class Siamese(nn.Module):
    def __init__(self, in_channels, channels=32, code=64):
        super().__init__()
        self.encoder = named(
            conv1=ConvNormAct(in_channels, channels),
            pool1=nn.MaxPool2d(2),
            conv2=ConvNormAct(channels, 2 * channels),
            pool2=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            code=nn.Linear(2 * channels, code),
        )
        self.head = nn.Linear(code, 1)

    def forward(self, first, second):
        distance = (self.encoder(first) - self.encoder(second)).abs()
        return self.head(distance).squeeze(-1)


class ViTLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention = ViTAttention(width, heads)
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)
        self.mlp = named(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width))

    def forward(self, x):
        x = x + self.attention(self.layernorm_before(x))
        return x + self.mlp(self.layernorm_after(x))


class ViTAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (p(x).view(B, T, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C))


class ViTEmbeddings(nn.Module):
    def __init__(self, in_channels, image, patch, width):
        super().__init__()
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        positions = torch.empty(1, (image // patch) ** 2 + 1, width)
        self.position_embeddings = nn.Parameter(nn.init.trunc_normal_(positions, std=0.02))
        self.patch_embeddings = PatchEmbeddings(in_channels, patch, width)

    def forward(self, x):
        x = self.patch_embeddings(x)
        return torch.cat([self.cls_token.expand(x.size(0), -1, -1), x], dim=1) + self.position_embeddings


class PatchEmbeddings(nn.Module):
    def __init__(self, in_channels, patch, width):
        super().__init__()
        self.projection = nn.Conv2d(in_channels, width, patch, stride=patch)

    def forward(self, x):
        return self.projection(x).flatten(2).transpose(1, 2)


class ViTEncoder(nn.Module):
    def __init__(self, in_channels, image, patch, width, depth, heads):
        super().__init__()
        self.embeddings = ViTEmbeddings(in_channels, image, patch, width)
        self.layers = nn.ModuleList([ViTLayer(width, heads, 4 * width) for _ in range(depth)])
        self.layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x):
        x = self.embeddings(x)
        for layer in self.layers:
            x = layer(x)
        return self.layernorm(x)


class ViT(nn.Module):
    def __init__(self, in_channels, image, patch, width, depth, heads, classes):
        super().__init__()
        self.vit = ViTEncoder(in_channels, image, patch, width, depth, heads)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        return self.classifier(self.vit(x)[:, 0])


class Table(nn.Module):
    """Numbers beside columns of categories, each with an embedding of its own."""

    def __init__(self, numbers, sizes, hidden, depth, outputs, dropout=0.1):
        super().__init__()
        widths = [min(50, (size + 1) // 2) for size in sizes]
        self.embed = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True))
        width = numbers + sum(widths)
        layers = []
        for _ in range(depth):
            layers.append(named(linear=nn.Linear(width, hidden), act=nn.ReLU(), dropout=nn.Dropout(dropout)))
            width = hidden
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(width, outputs)

    def forward(self, x, categories):
        columns = [x, *(embed(categories[:, i]) for i, embed in enumerate(self.embed))]
        return self.out(self.body(torch.cat(columns, dim=1)))
