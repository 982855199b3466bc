"""Audio in: from a file, bytes or samples to windows of 10 s.

In the order of data flow: clip, containers, mpeg, pcm, libsndfile, joined, ffmpeg, decode, limits, warnings, windows,
isolated, decoder, prefetch.
"""
