"""Trains the student, a small network on FullBand that repeats what published networks say of speech.

    python -m recipes.student.clips                            free recordings, with domain and licence
    python -m recipes.student.teachers --models FOLDER         segments, degraded, with their teachers' scores
    python -m recipes.student.train                            the network, and its learning curve
    python -m recipes.student.evaluate DATA --models FOLDER    on listeners' ratings that none of this reads

All write to build/student by default. A shard of 50 segments takes 12 to 16 CPU-seconds, the training two minutes. The
first two may run at the same time; the third uses the shards that are there.
"""
