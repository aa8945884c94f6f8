# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prevents Ansible from evaluating the result of a filter, made of a managed host's data, as a template on the controller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ansible import template
from ansible.utils.unsafe_proxy import wrap_var
from jinja2 import pass_context

# From ansible-core 2.19 on, text is evaluated only where Ansible marked it as a template. Before, it is unless marked unsafe.
TEXT_IS_TEMPLATE = not hasattr(template, "trust_as_template")


def untrusted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `function`, with its result marked as unsafe, keys and values, on the versions of ansible-core that need it.

    Other filters lose the mark of a value (`join` makes new text), so the template that the filter is part of is marked
    as well: Ansible then marks whatever comes of it.
    """
    if not TEXT_IS_TEMPLATE:
        return function

    @pass_context
    @functools.wraps(function)
    def marked(context: Any, *arguments: Any, **options: Any) -> Any:
        context.unsafe = True
        return wrap_var(function(*arguments, **options))

    return marked
