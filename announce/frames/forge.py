"""Build frames in a short-lived child, so that the daemon does not carry scapy's 20 MB.

`python -m announce.frames.forge` reads a JSON list of {"address", "mac"} from its input and prints
a JSON list of {"address", "announce", "probe"} with frames in hexadecimal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from announce.errors import ForgeError
from announce.frames.build import MAC_LENGTH, Frames, frames_for, with_mac

TIMEOUT = 10.0
"""Seconds for the child: 0.4 s on an idle machine, most of it scapy's import."""


async def forge(requests: Sequence[tuple[str, str]], timeout: float = TIMEOUT) -> dict[str, Frames]:
    """Return the frames for each (address, MAC), by address as it was asked for. Raises ForgeError.

    The child is gone when this returns, is cancelled or fails.
    """
    if not requests:
        return {}
    question = json.dumps([{"address": address, "mac": mac} for address, mac in requests]).encode()
    # -P: a daemon with capabilities must not import from whatever directory it was started in.
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "announce.frames.forge",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    try:
        async with asyncio.timeout(timeout):
            answer, complaint = await child.communicate(question)
    except TimeoutError:
        raise ForgeError(f"no frames within {timeout:g}s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise ForgeError(
            complaint.decode(errors="replace").strip().rpartition("\n")[2]
            or f"exit code {child.returncode}"
        )
    built = [_frames(item) for item in json.loads(answer)]
    return {address: frames for (address, _), frames in zip(requests, built, strict=True)}


def _environment() -> dict[str, str]:
    """Return the child's environment.

    It finds this very package, and scapy finds no configuration or cache of a user.
    """
    here = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return {
        **os.environ,
        "PYTHONPATH": search,
        "XDG_CONFIG_HOME": os.devnull,
        "XDG_CACHE_HOME": os.devnull,
    }


def _frames(item: Mapping[str, object]) -> Frames:
    return Frames(str(item["address"]), _unhex(item["announce"]), _unhex(item["probe"]))


def _unhex(frames: object) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(frame) for frame in frames) if isinstance(frames, list) else ()


def answer(question: str) -> str:
    """Return the answer to one question, both JSON.

    Raises ValueError, KeyError or TypeError for a malformed one.
    """
    built = [frames_for(item["address"], item["mac"]) for item in json.loads(question)]
    return json.dumps(
        [
            {
                "address": frames.address,
                "announce": [frame.hex() for frame in frames.announce],
                "probe": [frame.hex() for frame in frames.probe],
            }
            for frames in built
        ]
    )


# ---------------------------------------------------------------- for all instances


Requests = Sequence[tuple[str, str]]
"""Addresses, each with the MAC address that it is announced with."""
Forge = Callable[[Requests], Awaitable[dict[str, Frames]]]


@dataclass(frozen=True, slots=True)
class Job:
    """What one instance has asked for. A failure is an answer too: who asked may have given up."""

    requests: Requests
    answer: asyncio.Future[dict[str, Frames] | Exception]


class FrameBuilder:
    """Asks for all instances together; what is asked while a child works goes into the next one."""

    def __init__(self, make: Forge = forge) -> None:
        self._make = make
        self._waiting: list[Job] = []
        self._work: asyncio.Task[None] | None = None

    async def build(self, requests: Requests) -> dict[str, Frames]:
        """Return the frames by address; raises ForgeError and OSError."""
        loop = asyncio.get_running_loop()
        job = Job(requests, loop.create_future())
        self._waiting.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._run_jobs())
        answer = await job.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _run_jobs(self) -> None:
        while self._waiting:
            jobs, self._waiting = [job for job in self._waiting if not job.answer.done()], []
            built: dict[str, Frames] = {}
            failure: Exception | None = None
            try:
                built = await self._make([request for job in jobs for request in job.requests])
            except (ForgeError, OSError) as error:
                failure = error
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_result(
                        failure or {address: built[address] for address, _ in job.requests}
                    )


# ---------------------------------------------------------------- of one instance


Address = IPv4Interface | IPv6Interface
FORGE_RETRY = 5.0
"""Seconds before frames that could not be built are tried again."""


class InterfaceFrames:
    """Keeps an instance's frames in step with its interface.

    `on_frames` is called when there are some, or others.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        forge: Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, Frames]]],
        on_frames: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.frames: tuple[Frames, ...] = ()
        self.mac = ""
        self._addresses = tuple(addresses)
        self._forge = forge
        self._on_frames = on_frames
        self._on_trouble = on_trouble
        self._forging: asyncio.Task[None] | None = None

    def on_mac(self, mac: str) -> None:
        """Have the frames built if there are none yet.

        Put the MAC into those that are there, at once, if it is another one.

        What is no MAC of Ethernet, an empty one included, changes nothing.
        """
        if mac == self.mac or len(_packed(mac)) != MAC_LENGTH:
            return
        self.mac = mac
        if self.frames:
            self.frames = self._up_to_date(self.frames)
            self._on_frames()
        elif self._forging is None:
            self._forging = asyncio.get_running_loop().create_task(self._build())

    def close(self) -> None:
        """Stop building."""
        if self._forging is not None:
            self._forging.cancel()

    async def _build(self) -> None:
        while not self.frames:
            try:
                built = await self._forge(
                    [(str(address.ip), self.mac) for address in self._addresses]
                )
            except (ForgeError, OSError) as error:
                self._on_trouble(
                    f"frames could not be built: {error}; trying again in {FORGE_RETRY:g}s"
                )
                await asyncio.sleep(FORGE_RETRY)
                continue
            # The MAC may have changed while the child worked.
            self.frames = self._up_to_date(built.values())
        self._on_frames()

    def _up_to_date(self, frames: Iterable[Frames]) -> tuple[Frames, ...]:
        mac = _packed(self.mac)
        return tuple(
            replace(
                one,
                announce=tuple(with_mac(frame, mac) for frame in one.announce),
                probe=tuple(with_mac(frame, mac) for frame in one.probe),
            )
            for one in frames
        )


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


if __name__ == "__main__":
    sys.stdout.write(answer(sys.stdin.read()))
