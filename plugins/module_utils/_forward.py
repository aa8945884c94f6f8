# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where records go, and under which tags, by the option `forward`."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ._cti.errors import ForwardError
from ._cti.rule.settings import CHANGE_STREAM, DATA_STREAM, EXTENSION, Settings
from ._cti.text import plural
from ._cti.wire.address import parse

SECONDS = 60  # for all that one task delivers, and as many for the message it is at then


class Forward:
    """The option as given; every address in it is valid. Raises ForwardError."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._address = parse(given["address"])
        self._config = parse(given["config_address"])
        self._asked: Optional[Settings] = None
        self.notes: Sequence[str] = ()  # sentences about what deliver() set aside

    @property
    def to_agent(self) -> bool:
        """Whether it is the Azure Monitor Agent, or what stands in for it, rather than any receiver on the network."""
        return self._address.is_local

    def settings(self) -> Settings:
        """What the agent says is to be tracked. Raises DcrError too."""
        from ._cti.ama.config import ask
        from ._cti.rule import dcr

        if self._asked is None:
            document = ask(self._config, EXTENSION, self._given["allow_users"])
            if document is None:
                raise ForwardError(
                    "The agent at %s has no data collection rule for %s; associate one with this machine, or, if that is a relay,"
                    " add one to its relay_chunks, or give dcr." % (self._config, EXTENSION)
                )
            self._asked = dcr.load(document, "of the agent at %s" % str(self._config))
        return self._asked

    def tags(self, settings: Settings) -> Dict[str, Sequence[str]]:
        """By stream, as tags.choose() has it; where the rule names none, those of the rule that the agent has."""
        from ._cti.rule import tags

        given = {CHANGE_STREAM: self._given["change_tag"], DATA_STREAM: self._given["data_tag"]}
        chosen = tags.choose(self._address, settings.streams, given)
        if not all(chosen.values()):
            of_agent = tags.choose(self._address, self.settings().streams, given)
            chosen = {stream: found or of_agent[stream] for stream, found in chosen.items()}
        return chosen

    def deliver(self, state: str, settings: Settings) -> Dict[str, int]:
        """Hand over what waits in the outbox, from earlier runs too. Raises StateError too."""
        from ._cti.state.outbox import Outbox, deliver
        from ._cti.wire.sender import Sender
        from ._cti.wire.tls import Tls

        given = self._given
        tls = Tls(ca=given["tls_ca"], cert=given["tls_cert"], key=given["tls_key"])
        chosen = self.tags(settings)
        notes: List[str] = []
        self.notes = notes
        with Outbox(state) as outbox, Sender(
            self._address, given["allow_users"], given["acks"], deadline=SECONDS, tls=tls, turn=SECONDS
        ) as sender:
            try:
                delivery = deliver(outbox, sender.send, chosen)
            finally:
                notes += outbox.notes
        if delivery.waiting:
            notes.append(
                "%s kept for the next run, of %d: %s takes them so slowly that %d s were not enough. See the receiver's log."
                % (plural(delivery.waiting, "record", "is"), sum(delivery), self._address, SECONDS)
            )
        return dict(delivery._asdict())
