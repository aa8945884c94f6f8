# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Under which tags the records of a stream are sent."""

from typing import Dict, Mapping, Optional, Sequence

from ..wire.address import Address
from .settings import CHANGE_STREAM, DATA_STREAM

STREAMS = (CHANGE_STREAM, DATA_STREAM)


def choose(
    address: Address, of_rule: Mapping[str, Sequence[str]], given: Mapping[str, Optional[str]]
) -> Dict[str, Sequence[str]]:
    """The tags of each stream, for the receiver at `address`; none where a rule has to name one and does not.

    A tag that is `given` for a stream is used. Otherwise the Azure Monitor Agent, or what stands in for it at a unix socket, gets
    records under the tags of the rules (`of_rule`, as in Settings.streams), one for each rule. These are names of that agent's own,
    so every other receiver gets them under the name of the stream.
    """
    tags: Dict[str, Sequence[str]] = {}
    for stream in STREAMS:
        tag = given.get(stream)
        if tag:
            tags[stream] = (tag,)
        else:
            tags[stream] = tuple(of_rule.get(stream, ())) if address.is_local else (stream,)
    return tags
