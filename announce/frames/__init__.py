"""Frames that announce an address: built by a child, kept ready, sent at the right moments.

For others: `announcer.Announcer`, `forge.InterfaceFrames`, `sender.Sender`, `build`.
"""
