"""Results for people: tables and plots.

In the order of data flow: text, plots.
"""
