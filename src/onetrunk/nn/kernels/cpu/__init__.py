"""For a CPU: one operation a file, with its gradient.

Whoever calls it has the plain twin, PyTorch's own operation, for every other device, for compiled code, and where the
switch says `plain`.
"""
