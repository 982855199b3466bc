"""Trains the student, a small encoder of full-band audio, on the outputs of published networks.

    python -m recipes.student.clips                            free recordings, with domain and licence
    python -m recipes.student.teachers --models FOLDER         segments, degraded, with their teachers' outputs
    python -m recipes.student.train                            the network; resumable, with a learning curve
    python -m recipes.student.evaluate DATA --models FOLDER    on human ratings that none of this reads

All write to build/student by default. A shard of 50 segments takes about 10 CPU-seconds, an epoch 0.015 for each
segment. The first two may run at the same time as the third.
"""
