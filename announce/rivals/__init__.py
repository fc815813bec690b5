"""Who else speaks as one of our addresses.

For others: `rivals.Rivals`, `rivals.Dispute`, `ask`.
"""
