"""What a masked autoencoder predicts, and how far off it is."""

from everest.objectives.pixels import patch_statistics, pixel_loss, pixel_targets, target_pixels

__all__ = ["patch_statistics", "pixel_loss", "pixel_targets", "target_pixels"]
