"""From labelled clips to a model folder.

In the order of data flow: settings, identity, dataset, loop, ridge, closed_form, checkpoint, summary, fit.
"""
