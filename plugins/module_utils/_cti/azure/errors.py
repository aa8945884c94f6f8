# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The exception of everything that talks to Azure."""

from typing import Optional

from ..errors import CtiError


class AzureError(CtiError):
    """A request to Azure failed. The text says why and what to do; no text has a token, a key or a secret.

    `status`: of the answer, 0 where there was none. `retry_after`: seconds to wait, as the answer asked; None where it did not.
    """

    def __init__(self, text: str, status: int = 0, retry_after: Optional[float] = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after
