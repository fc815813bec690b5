"""What the kernel knows: interfaces and addresses, read, written and watched by netlink.

For others: `netlink` (one kept socket), `addresses` (bind, unbind, read back), `messages`,
`watch.KernelWatch`, `interface`.
"""
