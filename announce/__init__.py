"""Addresses on interfaces, and who on the link knows of them.

Owns: binding and unbinding (netlink, address), the frames that claim an address and how often they are sent (frames, forge,
burst, sender), what the kernel says of links and addresses (watch), and who else speaks as one of ours (rivals, probe).

Never decides who may hold an address: whoever calls compares the deadline, and passes it in as a function where frames are
sent. Works in the network namespace of the calling thread. Knows neither vipd, nor elections, nor health checks.
"""
