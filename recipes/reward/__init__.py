"""A reward in use: gradient ascent on Production Quality, with and without what keeps it honest.

python -m recipes.reward.curve    the example of docs/REWARD.md: results.json and docs/images/reward.png
"""
