"""Data sets, augmentation, the training loop and the evaluation."""
