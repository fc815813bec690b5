"""What the store's answers prove, and what they don't.

Applied and read are certain, a conflict only says that somebody else wrote, an unknown outcome says nothing: both are
read back before they are judged. A watch is a hint: what it shows is believed only if it is newer than all that was seen.
"""

from __future__ import annotations

from election.machine.digest import Digest
from election.machine.handover import Phase
from election.machine.situation import Request, Situation
from election.model import Applied, Conflict, Content, Found, ReadAnswer, State, Unknown, WriteAnswer
from election.timing import HANDOVER_REREAD

LONGEST_PAUSE = 0.4
"""Most seconds that a node which holds nothing waits after a request that failed at once: so late may it learn of a release."""


class Answers:
    """Judges what comes from the store, and passes on what is certain."""

    def __init__(self, situation: Situation, digest: Digest) -> None:
        self._s = situation
        self._digest = digest

    def on_watch(self, now: float, content: Content) -> None:
        """Believe a watch that shows something newer; anything else may be merely late, or a restored store: read."""
        seen = self._s.seen
        if seen.is_news(content):
            seen.news_at = now
            self._digest.take_in(now, content)
        elif not seen.is_known(content) and not self._is_echo(content):
            self._s.desk.unread = True

    def on_read(self, now: float, number: int, answer: ReadAnswer) -> None:
        """Take the answer to a read."""
        s = self._s
        request = s.desk.answered(number)
        if request is None:
            return
        if isinstance(answer, Unknown):
            self._on_unknown(now, request)
            return
        s.desk.in_contact()
        # A watch may have shown a later content while this answer travelled: then it proves nothing about age.
        overtaken = s.seen.news_at >= request.sent_at and not s.seen.is_known(answer)
        if overtaken and not s.seen.is_news(answer):
            return
        s.desk.unread, s.desk.read_at = False, now
        self._digest.take_in(now, answer)
        s.probing.judge(request.sent_at, s.seen.record)

    def on_write(self, now: float, number: int, answer: WriteAnswer) -> None:
        """Take the answer to a write."""
        s = self._s
        request = s.desk.answered(number)
        if request is None or request.write is None:
            return
        match answer:
            case Unknown():
                self._on_unknown(now, request)
            case Conflict():
                s.desk.in_contact()
                s.desk.unread = True
                if s.handover is not None and s.handover.phase is Phase.NAMING:
                    # A stranger's edit came between: nobody was named, so nobody is to blame. Try again.
                    s.handover = None
            case Applied(revision):
                s.desk.in_contact()
                written = Found(request.write.record, revision)
                if s.seen.news_at < request.sent_at:
                    self._digest.take_in(now, written)
                elif not s.seen.is_known(written):
                    # A watch was faster, with what came after this write: only a read tells.
                    s.desk.unread = True

    def give_up(self, now: float) -> None:
        """Take a request that has run out of time for one whose outcome is unknown."""
        request = self._s.desk.request
        if request is not None and now >= request.gives_up_at:
            self._on_unknown(now, request)

    def _on_unknown(self, now: float, request: Request) -> None:
        s = self._s
        timing = s.settings.timing
        pause = timing.retry_interval if s.state is State.ACTIVE else min(LONGEST_PAUSE, timing.renew_interval / 2)
        if s.handover is not None:
            pause = min(pause, HANDOVER_REREAD)
        s.desk.unknown(now, request, pause)

    def _is_echo(self, content: Content) -> bool:
        s = self._s
        return isinstance(content, Found) and content.record.held_by(s.me) and s.right.used(content.record.counter)
