"""Augmentation of a batch of images, on the device."""
