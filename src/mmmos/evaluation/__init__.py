"""How well scores agree with human ratings.

In the order of data flow: predictions, matching, agreement, rating_scales, ceiling, leaderboard.
"""
