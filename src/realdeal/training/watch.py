"""What a training shows while it runs: curves for TensorBoard and a picture of held-out samples."""

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from realdeal.files import atomic_path

HEIGHT = 256  # pixels of the picture


class Watch:
    """Writes `study.events(name)` (`tensorboard --logdir`) and `study.picture(name)`.

    `step`: where the training starts; what a stopped run has logged beyond it is forgotten.
    """

    def __init__(self, study, name, step):
        self.picture = study.picture(name)
        self.events = SummaryWriter(study.events(name), purge_step=step + 1)

    def curves(self, row):
        """Log a row of the history."""
        for key in ("loss", "validation_loss"):
            self.events.add_scalar(key, row[key], row["step"])

    def volumes(self, shown, step):
        """Middle slices of volumes {caption: tensor (X, Y, Z)}, side by side on one grey scale."""
        slices = [
            np.rot90(volume[:, :, volume.shape[2] // 2].float().cpu().numpy())
            for volume in shown.values()
        ]
        low, high = min(map(np.min, slices)), max(map(np.max, slices))
        row = np.concatenate(slices, 1)
        grey = np.uint8(255 * (row - low) / max(high - low, 1e-6))
        size = max(1, HEIGHT // grey.shape[0])
        image = Image.fromarray(grey.repeat(size, 0).repeat(size, 1))
        with atomic_path(self.picture) as temporary:
            image.save(temporary, format="PNG")
        self.events.add_image(" | ".join(shown), grey, step, dataformats="HW")

    def close(self):
        self.events.close()
