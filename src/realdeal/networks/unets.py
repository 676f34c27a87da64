"""The two diffusion U-Nets: of the latents and of the refiner's patches."""

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn


def coordinate_grid(shape, device=None):
    """Voxel coordinates in [-1, 1]: (1, 3, *shape)."""
    axes = [torch.linspace(-1, 1, n, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


class LatentUNet(nn.Module):
    """U-Net of the LDM (paper, supplement 1): latents and time step to the prediction.

    `coordinates` adds the three voxel coordinates to the input, which lets a small network on few
    subjects know where it is; the paper does without. `conditioning` is a
    `realdeal.diffusion.conditioning.Conditioning` or None. With `guess`, a denoiser in closed form
    (`realdeal.diffusion.local`), the U-Net is shown its guess too and adds to the prediction that
    follows from it; `scheduler` then tells signal levels and prediction.
    """

    def __init__(
        self,
        unet,
        latent_channels=4,
        coordinates=False,
        conditioning=None,
        guess=None,
        scheduler=None,
    ):
        super().__init__()
        self.coordinates = coordinates
        self.conditioning = conditioning
        self.guess = guess
        if guess is not None:
            self.prediction = scheduler.prediction_type
            signal = scheduler.alphas_cumprod.clone()
            self.register_buffer("alphas_cumprod", signal, persistent=False)
        extra = (3 if coordinates else 0) + (latent_channels if guess is not None else 0)
        options = {}
        if conditioning is not None:
            extra += conditioning.concatenated
            if conditioning.context_width:
                options = {
                    "with_conditioning": True,
                    "cross_attention_dim": conditioning.context_width,
                }
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=latent_channels + extra,
            out_channels=latent_channels,
            **unet,
            **options,
        )

    def forward(self, z, t, covariates=None, told=None):
        """`z` (N, C, x, y, z), integer `t` (N,), `covariates` (N, K) or None, `told` (N,) bool.

        `told` says which samples are told their covariates (`Conditioning`); None, all.
        """
        inputs, context = [z], None
        if self.coordinates:
            inputs.append(coordinate_grid(z.shape[2:], z.device).expand(len(z), -1, -1, -1, -1))
        if self.conditioning is not None:
            planes, context = self.conditioning(covariates, told)
            if planes is not None:
                inputs.append(planes[:, :, None, None, None].expand(-1, -1, *z.shape[2:]))
        if self.guess is None:
            return self.unet(torch.cat(inputs, 1), timesteps=t, context=context)
        signal, features, group = self.alphas_cumprod[t], z.new_zeros(len(z), 0), None
        if self.conditioning is not None:
            features = self.conditioning.features(covariates)
            if told is not None:  # whoever is told nothing is taken for the average
                features = torch.where(told[:, None], features, self.guess.centre)
            group = self.conditioning.group(covariates, told)
        clean = self.guess(z, signal, features, group)
        output = self.unet(torch.cat([*inputs, clean], 1), timesteps=t, context=context)
        signal = signal.view(-1, 1, 1, 1, 1)
        noise = (z - signal.sqrt() * clean) / (1 - signal).sqrt()
        if self.prediction == "epsilon":
            return output + noise
        return output + signal.sqrt() * noise - (1 - signal).sqrt() * clean


class PatchUNet(nn.Module):
    """Patch-based image-to-image U-Net (paper, section 2.2): input (x_t, coarse, y_prev) to noise.

    `parameterisation` says how the network's output F becomes the predicted noise:

    - `epsilon` (paper): the noise is F(x_t, coarse, y_prev).
    - `residual`: with a = sqrt(abar_t), s = sqrt(1 - abar_t), d = x_t - a coarse and v = a^2 q^2 +
      s^2, where q is the standard deviation of original - coarse, the noise is
      d s / v + F(d / sqrt(v), coarse, y_prev) a q / sqrt(v). The first term is the best linear
      estimate of the noise, the factor of F the standard deviation of what it leaves (EDM's
      preconditioning, Karras 2022, applied to the residual). Same objective, but a network that
      knows nothing yet already denoises, which is what few training steps need.
    """

    def __init__(self, unet, alphas_cumprod, parameterisation="epsilon", residual_std=0.1):
        super().__init__()
        if parameterisation not in ("epsilon", "residual"):
            raise ValueError(f"unknown parameterisation {parameterisation!r}")
        self.parameterisation = parameterisation
        self.residual_std = residual_std
        self.register_buffer("alphas_cumprod", alphas_cumprod.clone(), persistent=False)
        self.unet = DiffusionModelUNet(spatial_dims=3, in_channels=3, out_channels=1, **unet)

    def forward(self, x, t, coarse, previous):
        """All volumes (N, 1, P, P, P); integer `t` (N,); returns the predicted noise."""
        if self.parameterisation == "epsilon":
            return self.unet(torch.cat([x, coarse, previous], 1), timesteps=t)
        signal = self.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        a, s = signal.sqrt(), (1 - signal).sqrt()
        difference = x - a * coarse
        variance = signal * self.residual_std**2 + s**2
        scale = variance.rsqrt()
        output = self.unet(torch.cat([difference * scale, coarse, previous], 1), timesteps=t)
        return difference * (s / variance) + output * (a * self.residual_std * scale)
