"""Results for people: tables, plots and pages.

In the order of data flow: text, plots; systems, summary, players, page, html; sound, curves, timeline_plot, timeline;
leaderboard.
"""
