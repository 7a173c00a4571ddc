"""Text to vector: EncoderSpec, presets, loading, fingerprints, devices, sanity.

The only room that knows dims. What does not belong here: training (training/), storing vectors (index/).
"""
