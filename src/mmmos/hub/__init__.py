"""Published weights: where they are, their licences, and how they are fetched.

In the order of data flow: options, licenses, fetch, published.
"""
