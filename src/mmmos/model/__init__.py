"""The trained part of a system, and the folder that holds it.

In the order of data flow: fusion, aggregators, heads, quality, folder, audiobox, load.
"""
