# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JMESPath, for ct_query and the callback: one search, whose errors quote nothing of a managed host's data."""

from __future__ import annotations

from typing import Any

try:
    import jmespath
except ImportError:
    jmespath = None

__all__ = ["MISSING", "jmespath", "search"]

MISSING = "needs the Python package jmespath on the controller. Install it in the Python environment of ansible-core"


def search(expression: str, data: Any) -> Any:
    """What the expression selects from plain data. Raises ValueError with the reason. Needs jmespath."""
    try:
        return jmespath.search(expression, data)
    except jmespath.exceptions.JMESPathTypeError as error:
        expected = ", ".join(error.expected_types)
        raise ValueError(f"{error.function_name}() takes {expected}, not {error.actual_type}") from None
    except jmespath.exceptions.JMESPathError as error:  # it quotes the expression alone
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("the data is nested too deeply") from None
    except (TypeError, KeyError, AttributeError, ArithmeticError):
        raise ValueError("an argument of a function has the wrong type") from None
