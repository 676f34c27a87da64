"""The published noise schedule, a shorter one, and small U-Nets."""

SCHEDULE = {
    "timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0205,
    "kind": "scaled_linear_beta",
}
SHORT = SCHEDULE | {"timesteps": 100, "beta_end": 0.15}


def small_unet(*channels, attention=False):
    """Settings of a U-Net of two levels, the second with or without attention."""
    return {
        "channels": list(channels),
        "num_res_blocks": 1,
        "attention_levels": [False, attention],
        "num_head_channels": [0, channels[-1]],
        "norm_num_groups": 4,
    }
