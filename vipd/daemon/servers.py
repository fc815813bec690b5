"""What the daemon offers to operators and collectors: the control socket and the web server."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vipd.config.values import Config
from vipd.control.errors import ControlError
from vipd.control.server import ControlServer
from vipd.daemon.view import View
from vipd.observe.metrics import Metrics
from vipd.web.server import Web

log = logging.getLogger("vipd")


class Servers:
    """Both servers; the election neither waits for them nor ends with them."""

    def __init__(self) -> None:
        self._control: ControlServer | None = None
        self._web: Web | None = None

    async def start(
        self,
        config: Config,
        control: ControlServer,
        metrics: Metrics,
        view: View,
        alive: Callable[[], str],
    ) -> None:
        """Open what the configuration asks for; what cannot be opened is said and left out."""
        self._control = control
        try:
            await control.start()
        except ControlError as error:
            log.error("%s; `vipd status` and the other commands will not work", error)  # noqa: TRY400 -- a sentence, no traceback
        if config.metrics_listen is not None:
            host, port = config.metrics_listen
            self._web = Web(host, port, metrics, alive, view.ready)
            await self._web.start()

    async def close(self) -> None:
        """Close what was opened."""
        if self._control is not None:
            await self._control.close()
        if self._web is not None:
            await self._web.close()
