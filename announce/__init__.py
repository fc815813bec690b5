"""The virtual IP on the wire.

Binds addresses, builds and sends frames, watches the kernel and the link.

It does what is asked of it, at once and bounded, and reports what it saw. It never decides who
owns an address: each frame is sent only if the caller says, right then, that it still does.
`netlink` and `addresses` in kernel need nothing but the standard library, because the guard uses
them too; pyroute2 builds the messages and reads the kernel's events, scapy builds the frames in a
short-lived child.
"""
