"""Published weights: their locations, their licences, and the hub client.

In the order of data flow: options, licenses, terms, fetch, published, push.
"""
