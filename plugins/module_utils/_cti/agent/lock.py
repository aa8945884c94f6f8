# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The lock of a state directory: held by the one agent that uses it, and how others see that one runs."""

import fcntl
import os
import time

from .. import folders
from ..errors import StateError
from .options import AgentOptions

LOCK_SECONDS = 1.0  # who holds the lock for longer is an agent; is_running() has it for a moment


class StateLock:
    """Held by the one agent that uses a state folder. Raises StateError."""

    def __init__(self, folder: str) -> None:
        try:
            folders.check(folder, (0, os.geteuid()), make=True)
            path = os.path.join(folder, "lock")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._take(time.monotonic() + LOCK_SECONDS)
        except BlockingIOError:
            raise StateError(
                "An agent runs with the state in %s already; stop it, or give another --state." % folder
            ) from None
        except folders.Controlled as error:
            raise StateError(
                "The state folder %s is controlled by others than the user who runs this (%s); give one in a folder of that user."
                % (folder, error.filename)
            ) from error
        except OSError as error:
            raise StateError(
                "The state folder %s cannot be used (%s); give one that can be written." % (folder, error.strerror)
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
    """Whether an agent holds the state's lock. Raises StateError."""
    try:
        file = folders.opener(follow=False)(options.path("lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(
            "%s cannot be read (%s); ask as the agent's user or as root." % (options.path("lock"), error.strerror)
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)
