"""From clips to encoder features: the waist between audio and training.

In the order of data flow: source, crops, cache, extractor.
"""
