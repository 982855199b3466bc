"""MMMOS in other frameworks: a metric of torchmetrics, callbacks of trainers, and columns of data sets of Hugging Face.

In the order of data flow: optional, batches, statistics, metric_plot, metric, samples, lightning, trainer, dataset.
"""
