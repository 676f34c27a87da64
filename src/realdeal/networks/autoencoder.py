"""The LDM's autoencoder (paper, section 2.1 and supplement 1)."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with LeakyReLU and an identity skip."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x):
        y = self.second(F.leaky_relu(self.first(x), 0.2))
        return F.leaky_relu(x + y, 0.2)


class Autoencoder(nn.Module):
    """Deterministic 3D ResNet autoencoder with two down-samplings.

    `channels` holds the width at full, half and quarter resolution (published: 64, 128, 64); a
    1x1x1 bottleneck maps the last to `latent_channels` and a sigmoid bounds the latents, another
    bounds the output, scaled to [-1, 1].

    The published code also has two batch normalisations. They are left out: their statistics
    depend on how a batch is split over devices, and on crops of the background, and the network
    trains without them.
    """

    def __init__(self, channels=(64, 128, 64), latent_channels=4):
        super().__init__()
        inner = max(channels[-1] // 2, latent_channels)
        self.encoder = nn.ModuleList([nn.Conv3d(1, channels[0], 3, padding=1)])
        self.encoder.extend(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.encoder_blocks = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.to_latent = nn.Sequential(
            nn.Conv3d(channels[-1], inner, 1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(inner, latent_channels, 1),
        )
        self.from_latent = nn.Sequential(
            nn.Conv3d(latent_channels, inner, 1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(inner, channels[-1], 1),
        )
        down_to_up = tuple(reversed(channels))
        self.decoder_blocks = nn.ModuleList(ResidualBlock(c) for c in down_to_up)
        self.decoder = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(down_to_up))
        self.decoder.append(nn.Conv3d(channels[0], 1, 3, padding=1))

    def encode(self, x):
        """Volumes (N, 1, X, Y, Z) in [-1, 1] to latents (N, C, X/4, Y/4, Z/4) in [0, 1]."""
        for level, (convolution, block) in enumerate(
            zip(self.encoder, self.encoder_blocks, strict=True)
        ):
            if level > 0:
                # The mean of 2x2x2 voxels is what trilinear interpolation by 1/2 gives.
                x = F.avg_pool3d(x, 2)
            x = block(F.leaky_relu(convolution(x), 0.2))
        return torch.sigmoid(self.to_latent(x))

    def decode(self, z):
        """Latents (N, C, x, y, z) in [0, 1] to volumes (N, 1, 4x, 4y, 4z) in [-1, 1]."""
        x = F.leaky_relu(self.from_latent(z), 0.2)
        for level, (block, convolution) in enumerate(
            zip(self.decoder_blocks, self.decoder, strict=True)
        ):
            x = block(x)
            if level < len(self.decoder) - 1:
                x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2)), 0.2)
            else:
                x = convolution(x)
        return 2 * torch.sigmoid(x) - 1

    def forward(self, x):
        return self.decode(self.encode(x))
