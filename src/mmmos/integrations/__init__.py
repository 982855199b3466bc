"""MMMOS in other frameworks: a metric of torchmetrics.

In the order of data flow: optional, batches, statistics, metric_plot, metric.
"""
