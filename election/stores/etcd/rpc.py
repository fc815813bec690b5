"""etcd's protocol: messages and stubs, which aetcd generated.

Whoever needs gRPC imports it from here, so that it is loaded quietly.
"""

from __future__ import annotations

import os

# gRPC's core writes several lines to stderr for each TLS handshake that fails, many times a second
# while a certificate is wrong; whatever they say stands in the error too. It reads this once, when
# it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from aetcd import rpc
from aetcd.utils import prefix_range_end
from grpc import ChannelConnectivity, ssl_channel_credentials
from grpc.aio import EOF

__all__ = ["EOF", "ChannelConnectivity", "prefix_range_end", "rpc", "ssl_channel_credentials"]
