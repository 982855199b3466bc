"""From clips to encoder features: the waist between audio and training.

In the order of data flow: crops, cache, extractor.
"""
