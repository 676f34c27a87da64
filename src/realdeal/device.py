"""Which device a job computes on.

Torch is imported where it is needed: most scores do without it, and it takes seconds to load.
"""

from realdeal.errors import InputError


def choose_device(wanted=None):
    """The device called `wanted` (cpu, cuda, cuda:1); None: CUDA if there is one, else the CPU.

    InputError if this machine has no such device.
    """
    import torch

    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise InputError(f"device {wanted}: not to be had here; use cpu, cuda or cuda:N") from error
    return device


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
