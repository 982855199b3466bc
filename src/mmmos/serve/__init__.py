"""The HTTP service and its page.

In the order of a request: app, page, middleware, uploads, scoring, outline, schemas, metrics, limits, logs.
"""
