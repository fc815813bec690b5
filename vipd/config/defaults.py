"""Where things are if nobody says otherwise.

Apart from everything else, so that the guard can know them without a library.
"""

CONFIG_FILE = "/etc/vipd/vipd.yaml"
CONTROL_SOCKET = "/run/vipd/vipd.sock"
STATE_DIR = "/var/lib/vipd"
