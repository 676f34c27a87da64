"""Errors that are the user's to mend. Standard library only."""

import re


class InputError(ValueError):
    """Bad input. The message is one line that names the file or key and the remedy."""


def one_line(error):
    """The line that tells a user what to do: for InputError and GPUs that fail, else None.

    The errors of torch (AcceleratorError, OutOfMemoryError, and RuntimeError of CUDA's libraries)
    are known by name, because a job without torch must not import it.
    """
    if isinstance(error, InputError):
        return str(error)
    kind, said = type(error).__name__, str(error).split("\n")[0].rstrip(".")
    if kind == "OutOfMemoryError":
        return (
            f"the GPU's memory is full ({said.split('. ')[0]}); lower batch_size, "
            "or raise accumulation in a training, and run again"
        )
    if kind == "AcceleratorError" or re.match(
        r"(CUDA|cuDNN|CUBLAS|NCCL|NVML)\w* error", said, re.I
    ):
        return (
            f"the GPU failed ({said}); look at it with nvidia-smi and run the same command again: "
            "finished files are kept, a training goes on from its last checkpoint"
        )
    return None
