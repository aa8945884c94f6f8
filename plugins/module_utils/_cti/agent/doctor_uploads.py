# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Checks what the upload of file contents needs: the account in the rule, the identity, the container and the role."""

from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple

from .. import host
from ..azure.errors import AzureError
from ..azure.identity import STORAGE
from ..rule.settings import Settings
from ..text import plural
from .options import AgentOptions
from .uploads import Account, accounts, open_blobs

OK, WARNING, BROKEN = "ok", "warning", "broken"
Result = Tuple[str, str, str, str, Sequence[str]]  # name, status, message, remedy, details: see doctor.Link
SECONDS = 5.0  # for one request
_WAIT = "Until then, the contents of changed files wait on this host."


def examine_uploads(options: AgentOptions, settings: Settings, status: Optional[Mapping[str, Any]]) -> Iterator[Result]:
    """The checks `account`, and for each account that the rule names `identity` and `container`; then `uploads`. None of them stores
    anything. `status`: of the running agent."""
    found, problems = accounts(settings, options.upload_hosts)
    if problems:
        yield ("account", BROKEN, problems[0], "", problems[1:])
    elif not found:
        message = "The option upload_contents is on, but no file item of the rule with uploadContent has an account to upload to."
        remedy = "Set enableUpload and fileSettings.uploadSetting in the rule (in the role: agent_track.upload_to)."
        yield ("account", WARNING, message, remedy, [])
    for account in found:
        yield from _examine_account(options, account)
    if status is not None:
        waiting = "The contents of %s wait" % plural(status["Waiting"], "file")
        if status["Error"]:
            yield ("uploads", WARNING, status["Error"], "The upload is repeated automatically.", [waiting + "."])
        else:
            uploaded = plural(status["Texts"], "file", "was")
            yield ("uploads", OK, "%s; those of %s uploaded since the start." % (waiting, uploaded), "", [])


def _examine_account(options: AgentOptions, account: Account) -> Iterator[Result]:
    try:
        blobs = open_blobs(account, options, patience=0.0, seconds=SECONDS)
    except AzureError as error:
        yield ("identity", BROKEN, str(error), _WAIT, [])
        return
    try:
        blobs.tokens.token(STORAGE)
    except AzureError as error:
        yield ("identity", BROKEN, str(error), _WAIT, [])
        return
    yield ("identity", OK, "There is a token for %s." % blobs.tokens.describe(), "", [])
    try:
        blobs.check(str(host.identity()["Computer"]))
        yield ("container", OK, "%s accepts contents." % str(account.endpoint), "", [])
    except AzureError as error:
        yield ("container", BROKEN, str(error), _WAIT, [])
    finally:
        blobs.close()
