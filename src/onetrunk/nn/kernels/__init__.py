"""What is written by hand instead of PyTorch's own operations, by device. `core.kernels` switches it off."""
