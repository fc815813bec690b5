"""Build frames in a short-lived child, so that the daemon does not carry scapy's 20 MB.

`python -m announce.frames.forge` reads a JSON list of {"address", "mac"} from its input and prints
a JSON list of {"address", "announce", "probe"} with frames in hexadecimal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from announce.frames.build import Frames, frames_for

TIMEOUT = 10.0
"""Seconds for the child: 0.4 s on an idle machine, most of it scapy's import."""


class ForgeError(Exception):
    """The child failed, or gave no answer in time; the text says why."""


async def forge(requests: Sequence[tuple[str, str]], timeout: float = TIMEOUT) -> dict[str, Frames]:
    """Return the frames for each (address, MAC), by address as it was asked for. Raises ForgeError.

    The child is gone when this returns, is cancelled or fails.
    """
    if not requests:
        return {}
    question = json.dumps([{"address": address, "mac": mac} for address, mac in requests]).encode()
    # -P: a daemon with capabilities must not import from whatever directory it was started in.
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "announce.frames.forge",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=_environment(),
    )  # fmt: skip
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


if __name__ == "__main__":
    sys.stdout.write(answer(sys.stdin.read()))
