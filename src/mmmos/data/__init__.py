"""Lists of clips with their labels, from files to validated rows.

In the order of data flow: inputs, shards, manifest, lhotse, ratings, answers, labels, splits, trainable,
label_files, sources, corpora.
"""
