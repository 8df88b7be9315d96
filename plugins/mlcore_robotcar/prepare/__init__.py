"""From the download to images ready for training."""
