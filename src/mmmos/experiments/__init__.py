"""Experiments: train and evaluate tables of configurations.

In the order of data flow: config, sets, plan, single_run, ensembles, runs, results, row_names, claims, summary,
result_tables, cell_text, html, tables.
"""
