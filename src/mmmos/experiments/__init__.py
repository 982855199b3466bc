"""Tables of configurations, trained and evaluated.

In the order of data flow: config, runs, results, row_names, claims, summary, tables.
"""
