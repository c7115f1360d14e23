#!/bin/sh
# What a machine with a CUDA device can show that others cannot, in about 8 minutes: the CPU's numbers on the device, and
# the speed of training there. From the repository's root, with the package and its extra `dev` installed; nanoGPT is
# measured too where ONETRUNK_NANOGPT names a checkout of it.
set -e  # the first that fails is told
python -m onetrunk doctor
python -m pytest -q -n 4 tests/test_device.py tests/verbs/test_device_flag.py tests/nn/test_compiled.py
python -m bench lm_768_gpu
