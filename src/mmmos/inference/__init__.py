"""Audio in, scores out.

In the order of data flow: predictor, clip_scores, rows, differentiable, selfcheck, doctor.
"""
