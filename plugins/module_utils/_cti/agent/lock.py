# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The lock of a state directory. The agent that uses the directory holds it, and others check it to see whether one runs."""

import fcntl
import os
import time

from .. import folders
from ..errors import StateError
from .options import AgentOptions

LOCK_SECONDS = 1.0  # an agent holds the lock for longer than this; is_running() only for a moment


class StateLock:
    """Locks a state directory until it is garbage-collected. Raises StateError if another agent has the lock."""

    def __init__(self, folder: str) -> None:
        try:
            folders.check(folder, (0, os.geteuid()), make=True)
            path = os.path.join(folder, "lock")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._take(time.monotonic() + LOCK_SECONDS)
        except BlockingIOError:
            raise StateError(
                "Another agent runs with the state directory '%s'. Stop it, or give another --state." % folder
            ) from None
        except folders.Controlled as error:
            if error.filename == folder and os.stat(folder).st_uid not in (0, os.geteuid()):
                raise StateError(
                    "The state directory '%s' belongs to another user. %s Or give another --state."
                    % (folder, folders.run_as(folder, root=False))
                ) from error
            raise StateError(
                "The state directory '%s' can be replaced by other users (%s). Give one below a directory that only this user can write."
                % (folder, error.filename)
            ) from error
        except OSError as error:
            raise StateError(
                "The state directory '%s' cannot be used (%s). %s"
                % (
                    folder,
                    error.strerror,
                    folders.remedy(error, folder, "Give a directory that this user can write.", False),
                )
            ) from error

    def _take(self, until: float) -> None:
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
            time.sleep(LOCK_SECONDS / 20)


def is_running(options: AgentOptions) -> bool:
    """Whether an agent holds the lock of the state directory. Raises StateError."""
    try:
        file = folders.opener(follow=False)(options.path("lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(
            "Cannot read '%s' (%s). %s" % (options.path("lock"), error.strerror, folders.run_as(options.path("lock")))
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)
