"""winnow: train better CLIP models from noisy image-text data."""
