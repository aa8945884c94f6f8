# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Delivers the records in the outbox of an agent, and decides when to try again."""

import math
import random
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Sequence, Union

from ..daemon import Log
from ..errors import CtiError, ForwardError, StateDamaged
from ..rule import tags
from ..state.outbox import Outbox, deliver
from ..text import plural
from ..wire.sender import Sender
from .options import AgentOptions
from .receivers import Receivers
from .rule import ActiveRule
from .schedule import uptime
from .status import Status

if TYPE_CHECKING:
    from ..azure.ingestion import Ingestion

ONCE_SECONDS = 10  # to wait for a receiver that takes nothing, while somebody waits for the agent
TURN_SECONDS = 300  # the same in the background: thousands of agents may send to one relay at once
DELIVERY_SECONDS = 3600  # for one message, however slow the receiver is
ROUND_SECONDS = 300  # of sending to a slow receiver, before the agent reads the tags of the rule again
BACKOFF_SECONDS = (5, 300)  # until the next delivery: after the first failure, and at most


def next_backoff(last: float) -> float:
    """Seconds until the next delivery after a failed one. `last`: the value before that, or 0.

    Random, so that hosts whose deliveries failed at the same time do not retry at the same time.
    """
    first, most = BACKOFF_SECONDS
    return min(max(first, last * 2), most) * random.uniform(0.6, 1)


class Outcome(NamedTuple):
    """Of one delivery."""

    delivered: bool
    task: str = ""  # to run next: `delivery` or `rule`; empty: none
    seconds: float = 0.0  # until then


class Delivery:
    """The deliveries of one agent, for one thread at a time. `backoff`: seconds until the next one; 0 after one that succeeded."""

    def __init__(self, options: AgentOptions, log: Log, status: Status) -> None:
        self.backoff = 0.0
        self.receivers: Optional[Receivers] = None
        self._options = options
        self._log = log
        self._status = status
        self._silence: float = ONCE_SECONDS  # see ONCE_SECONDS
        self._round: float = math.inf
        self._not_before = 0.0  # by uptime(): when the receiver takes records again, as it asked
        self._error = ""  # of the last delivery, empty if it succeeded
        self._ingestion: Optional["Ingestion"] = None  # for records that go to Log Analytics; it keeps its token

    def be_patient(self) -> None:
        """Deliver in the background from now on: nobody waits for the agent, and its receiver may be replaced by another process."""
        self._silence, self._round = TURN_SECONDS, ROUND_SECONDS
        if self._options.receiver.is_local:
            self.receivers = Receivers()

    def pause(self) -> float:
        """Seconds for which the receiver still wants no records; at most 0 where it takes them."""
        return self._not_before - uptime()

    def deliver(self, rule: Optional[ActiveRule]) -> Outcome:
        """Deliver the records in the outbox. `rule`: whose tags they have. Raises StateDamaged."""
        try:
            with Outbox(self._options.database) as outbox:
                if not outbox.depth().records:
                    self._status.delivered(0)
                    return Outcome(True)
                try:
                    with self._sender() as sender:
                        delivery = deliver(outbox, sender.send, self.tags(rule))
                finally:
                    for note in outbox.notes:
                        self._log.error(note)
        except StateDamaged:
            raise
        except ForwardError as error:
            if self.receivers is not None and self.receivers.changed:
                self.backoff = 0.0
                return Outcome(False, "rule")  # a delivery follows it
            return self._failed(str(error), error.retry_after)
        except CtiError as error:
            return self._failed(str(error))
        self.backoff, self._error = 0.0, ""
        self._status.delivered(delivery.delivered)
        self._log("%s delivered, %d waiting." % (plural(delivery.delivered, "record", "was"), delivery.waiting))
        return Outcome(True, "delivery" if delivery.waiting else "")

    def tags(self, rule: Optional[ActiveRule]) -> Dict[str, Sequence[str]]:
        """The tags for each stream."""
        return tags.choose(self._options.receiver, rule.settings.streams if rule is not None else {}, {})

    def _sender(self) -> "Union[Sender, Ingestion]":
        options = self._options
        if options.to_azure:
            if self._ingestion is None:
                from ..azure.ingestion import open_ingestion  # loaded only if it is used

                self._ingestion = open_ingestion(options.address, options.azure)
            return self._ingestion
        return Sender(
            options.receiver,
            options.allow_users,
            options.acks,
            deadline=DELIVERY_SECONDS,
            silence=self._silence,
            tls=options.tls,
            turn=self._round,
            check=self.receivers.check if self.receivers is not None else None,
        )

    def _failed(self, why: str, retry_after: float = 0.0) -> Outcome:
        self.backoff = max(next_backoff(self.backoff), retry_after)
        self._not_before = uptime() + retry_after
        self._status.not_delivered(why)
        if why != self._error:
            self._error = why
            self._log.error("%s. The next attempt is in %d s." % (why.rstrip("."), self.backoff))
        return Outcome(False, "delivery", self.backoff)
