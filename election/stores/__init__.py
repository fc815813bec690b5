"""Where the records of elections are kept.

For others: `contract` (what every store can do), `encoding` (records as JSON), and one folder for
each backend.
"""
