"""Which device a job computes on.

Torch is imported where it is needed: most scores do without it, and it takes seconds to load.
"""


def choose_device():
    """A CUDA device if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(wanted="auto"):
    """Lightning Fabric's precision string; `auto` is bfloat16 where hardware has it.

    Few CPUs compute in bfloat16: without the instructions a convolution is some hundred times
    slower than in float32, so `auto` uses float32 on every CPU.
    """
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        return "bf16-mixed"
    return "32-true"
