"""Every comparison with a rival, each one file: `python -m bench --list`."""
