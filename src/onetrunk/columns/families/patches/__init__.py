"""Values that are cut in patches, each with a noise level of its own: pictures, films, and sound (patches of time).

Flow matching with one noise level a patch (arXiv 2210.02747; masked patches and whole drawings are one loss). Level t:
1 is given, 0 is masked, between is denoising. A noisy patch is x_t = t x + (1 - t) noise; the read-out predicts the
clean x, weighed by 1 / (1 - t)², which makes it the velocity's loss.
"""
