"""The LDM's autoencoder (paper, section 2.1 and supplement 1)."""

from itertools import pairwise

import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn import functional as F

SLOPE = 0.2  # of the LeakyReLUs below zero
BLOCK = 4  # voxels per side of a latent voxel


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with LeakyReLU and an identity skip."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x):
        y = self.second(F.leaky_relu(self.first(x), SLOPE))
        return F.leaky_relu(x + y, SLOPE)


class ChannelNorm(nn.LayerNorm):
    """Normalises the channels of each voxel, whatever stands around it."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Autoencoder(nn.Module):
    """Deterministic 3D ResNet autoencoder that samples down by four.

    `channels` holds the width at full, half and quarter resolution (published: 64, 128, 64); a
    1x1x1 bottleneck maps the last to `latent_channels` and a sigmoid bounds the latents, another
    bounds the output, scaled to [-1, 1]. With `fold` 2 each block of 2x2x2 voxels enters and
    leaves as 8 channels, which replaces the first down-sampling (`channels` then has two widths):
    on few cores the convolutions at full resolution cost most and bring least. `linear_path` adds
    a strided linear map around the encoder, before its sigmoid, and one around the decoder, after
    the inverse of the sigmoid; with `start_linear` they are a linear codec from the first step,
    which the rest of the network then improves upon. The output is then clamped to [-1, 1], in
    training not even that, instead of squashed.

    The published code has two batch normalisations. Their statistics depend on how a batch is
    split over devices and on crops of the background; here the channels of each voxel are
    normalised instead, in the bottleneck, which keeps the sigmoid from saturating.
    """

    def __init__(self, channels=(64, 128, 64), latent_channels=4, fold=1, linear_path=False):
        super().__init__()
        if fold * 2 ** (len(channels) - 1) != BLOCK:
            raise ValueError(f"{len(channels)} widths and fold {fold} do not sample down by four")
        self.fold = fold
        inner = max(channels[-1] // 2, latent_channels)
        self.encoder = nn.ModuleList([nn.Conv3d(fold**3, channels[0], 3, padding=1)])
        self.encoder.extend(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.encoder_blocks = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.to_latent = nn.Sequential(
            nn.Conv3d(channels[-1], inner, 1),
            ChannelNorm(inner),
            nn.LeakyReLU(SLOPE),
            nn.Conv3d(inner, latent_channels, 1),
        )
        self.from_latent = nn.Sequential(
            nn.Conv3d(latent_channels, inner, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv3d(inner, channels[-1], 1),
        )
        down_to_up = tuple(reversed(channels))
        self.decoder_blocks = nn.ModuleList(ResidualBlock(c) for c in down_to_up)
        self.decoder = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(down_to_up))
        self.decoder.append(nn.Conv3d(channels[0], fold**3, 3, padding=1))
        self._initialise()
        self.linear_path = linear_path
        if linear_path:
            self.linear_down = nn.Conv3d(1, latent_channels, BLOCK, stride=BLOCK)
            # From the latent voxels around a block, so that neighbouring blocks join smoothly.
            self.linear_up = nn.Conv3d(latent_channels, BLOCK**3, 3, padding=1)

    @torch.no_grad()
    def _initialise(self):
        """Activations of unit scale without normalisation (He 2015, Zhang 2019); output near -1."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)
        for block in [*self.encoder_blocks, *self.decoder_blocks]:
            block.second.weight.mul_(0.3)
        nn.init.normal_(self.to_latent[-1].weight, std=self.to_latent[-1].in_channels ** -0.5)
        self.decoder[-1].weight.mul_(0.3)
        nn.init.constant_(self.decoder[-1].bias, -2.0)

    @torch.no_grad()
    def start_linear(self, down, down_bias, up, up_bias):
        """Start the linear path at given maps; the other convolutions add little at first.

        `down` (C, 1, 4, 4, 4) and `down_bias` (C,) make latents before the sigmoid of blocks of
        voxels, `up` (64, C, 3, 3, 3) and `up_bias` (64,) the voxels of a block of those.
        """
        self.linear_down.weight.copy_(down)
        self.linear_down.bias.copy_(down_bias)
        self.linear_up.weight.copy_(up)
        self.linear_up.bias.copy_(up_bias)
        self.to_latent[-1].weight.mul_(0.1)
        self.decoder[-1].weight.mul_(0.3)
        self.decoder[-1].bias.zero_()

    def encode(self, x):
        """Volumes (N, 1, X, Y, Z) in [-1, 1] to latents (N, C, X/4, Y/4, Z/4) in [0, 1]."""
        linear = self.linear_down(x) if self.linear_path else 0
        x = pixelunshuffle(x, 3, self.fold)
        for level, (convolution, block) in enumerate(
            zip(self.encoder, self.encoder_blocks, strict=True)
        ):
            if level > 0:
                # The mean of 2x2x2 voxels is what trilinear interpolation by 1/2 gives.
                x = F.avg_pool3d(x, 2)
            x = block(F.leaky_relu(convolution(x), SLOPE))
        return torch.sigmoid(self.to_latent(x) + linear)

    def decode(self, z):
        """Latents (N, C, x, y, z) in [0, 1] to volumes (N, 1, 4x, 4y, 4z) in [-1, 1]."""
        if self.linear_path:
            z = torch.logit(z, eps=1e-3)
        x = F.leaky_relu(self.from_latent(z), SLOPE)
        for level, (block, convolution) in enumerate(
            zip(self.decoder_blocks, self.decoder, strict=True)
        ):
            x = block(x)
            if level < len(self.decoder) - 1:
                x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2)), SLOPE)
            else:
                x = convolution(x)
        x = pixelshuffle(x, 3, self.fold)
        if self.linear_path:
            x = x + pixelshuffle(self.linear_up(z), 3, BLOCK)
            return x if self.training else x.clamp(-1, 1)
        return 2 * torch.sigmoid(x) - 1

    def forward(self, x, noise=None):
        """Reconstruct volumes; `noise`, of the latents' shape, is added before the sigmoid."""
        z = self.encode(x)
        if noise is not None:
            z = torch.sigmoid(torch.logit(z, eps=1e-3) + noise)
        return self.decode(z)
