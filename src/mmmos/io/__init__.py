"""Files, lists and remote storage.

In the order of data flow: atomic, remote, shards, delimited, lists, bad_rows.
"""
