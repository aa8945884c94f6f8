# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that a managed host gets on standard input: runs one module of the collection in memory, and prints its result.

It is Python 3.6, and the controller sends its text and imports nothing of it. BOOT in call.py calls main() with what follows this
program in the input: streams of zlib and LZMA, of which the last is the request and the others hold source files (see payload.py).

The output is two lines. The first is printed before anything is imported or done, the second at the end:
`MARKER started` and `MARKER ended BASE64 MARKER`, with the base64 of the zlib stream of the answer as JSON. The marker is the
checksum of the input.
"""

import binascii
import builtins
import gc
import json
import os
import sys
import zlib
from _frozen_importlib import ModuleSpec  # importlib.machinery costs 1 ms
from operator import itemgetter

PLUGINS = "ansible_collections.changetracking.inventory.plugins"
TYPING = "ct_typing"  # what payload.py has our modules import in place of typing; the standard library has its own


CONSTRUCTORS: dict = {}  # type: ignore[type-arg]  # number of fields -> __new__ of a named tuple with so many


class Ended(BaseException):
    """The module called exit_json or fail_json."""


class Missing(BaseException):
    """A module of the collection is needed and was not sent. The controller then sends everything and the module runs again, unless it
    has stored its result. Nothing in the module can hide that one was raised."""

    needed: list = []  # type: ignore[type-arg]  # names, of all that were raised

    def __init__(self, name):
        super().__init__(name)
        self.needed.append(name)


class Sources:  # an importlib.abc.Loader, whose import costs 2 ms
    """Imports modules from the source text that was received."""

    def __init__(self, sources):
        self._sources = sources
        self._packages = {name.rpartition(".")[0] for name in sources}

    def find_spec(self, name, path=None, target=None):
        if name not in self._sources:
            if name.startswith(PLUGINS):
                raise Missing(name)
            return None
        # In tracebacks. Nobody can make such a file, which traceback would look for.
        path = "/proc/direct/%s.py" % name.rpartition(".")[2]
        return ModuleSpec(name, self, origin=path, is_package=name in self._packages)  # type: ignore[arg-type]

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        spec = module.__spec__
        exec(compile(self._sources[spec.name], spec.origin, "exec", dont_inherit=True), module.__dict__)


class AnsibleModule:
    """What the modules use of ansible.module_utils.basic.AnsibleModule. The controller has validated the parameters."""

    params: dict = {}  # type: ignore[type-arg]
    check_mode = False
    warnings: list = []  # type: ignore[type-arg]

    def __init__(self, argument_spec, **_more):
        expand_paths(argument_spec, self.params)

    def warn(self, text):
        self.warnings.append(text)

    def exit_json(self, **result):
        raise Ended(result)

    def fail_json(self, msg, **result):
        raise Ended(dict(result, failed=True, msg=msg))

    def run_command(self, command):
        import subprocess

        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True
        )
        output, complaint = process.communicate()
        return process.returncode, os.fsdecode(output), os.fsdecode(complaint)


class NamedTupleMeta(type):
    """Makes a class with annotated fields a tuple, as typing.NamedTuple does."""

    def __new__(cls, name, bases, body):
        if not bases:
            return type.__new__(cls, name, bases, body)
        annotations = body.pop("__annotations__", None)
        if annotations is None:  # since Python 3.14, there is a function that makes them
            annotations = (body.pop("__annotate__", None) or body.pop("__annotate_func__"))(1)
        fields = tuple(annotations)
        body.setdefault("__repr__", lambda self: "%s%r" % (name, tuple(self)))
        body.update(
            __slots__=(),
            __new__=tuple_constructor(fields, tuple(body.pop(field) for field in fields if field in body)),
            _fields=fields,
            _make=classmethod(tuple.__new__),
            _asdict=lambda self: dict(zip(fields, self)),
            _replace=replace_fields,
            __getnewargs__=as_tuple,
        )
        body.update({field: property(itemgetter(place)) for place, field in enumerate(fields)})
        return type(name, (tuple,), body)


class SubscriptableMeta(type):
    """Of Dict and its like, which may be the base of a class."""

    def __getitem__(cls, types):
        return cls


class Typing:
    """Stands in for the module typing, and for most of what is in it: importing typing and making named tuples by it takes 15 ms."""

    NamedTuple = NamedTupleMeta("NamedTuple", (), {})
    TYPE_CHECKING = False
    __spec__ = None

    def __getattr__(self, name):
        if name not in ("Dict", "FrozenSet", "List", "Set", "Tuple"):
            return self
        found = SubscriptableMeta(name, (getattr(builtins, name.lower()),), {})
        setattr(self, name, found)
        return found

    def __getitem__(self, types):
        return self

    def __call__(self, *_arguments, **_options):  # TypeVar("Name")
        return self


def tuple_constructor(fields, defaults):
    """Return the function __new__ of a named tuple. Since Python 3.8, one is compiled for each number of fields."""
    if len(fields) not in CONSTRUCTORS:
        values = {"_new": tuple.__new__}  # no field has a name with an underscore before it
        exec("def __new__(_cls, %s): return _new(_cls, (%s,))" % ((", ".join(fields),) * 2), values)
        if not hasattr(values["__new__"].__code__, "replace"):
            values["__new__"].__defaults__ = defaults
            return values["__new__"]
        CONSTRUCTORS[len(fields)] = values["__new__"]
    other = CONSTRUCTORS[len(fields)]
    code = other.__code__.replace(co_varnames=("_cls",) + fields)
    return type(other)(code, other.__globals__, "__new__", defaults)


def as_tuple(self):
    return tuple(self)


def replace_fields(self, **values):
    found = tuple.__new__(type(self), [values.pop(field, value) for field, value in zip(self._fields, self)])
    if values:
        raise ValueError("Got unexpected field names: %r" % list(values))
    return found


def expand_paths(options, values):
    """Expand ~ and variables in the values of the options of type path, as Ansible does on the host."""
    for name, option in options.items():
        value = values.get(name)
        if value is None:
            continue
        if option["type"] == "path":
            values[name] = os.path.expanduser(os.path.expandvars(value))
        elif "options" in option:
            expand_paths(option["options"], value)


def unpack(data):
    """Return the texts of the streams. Raises Missing where one cannot be read."""
    texts = []
    while data:
        stream = zlib.decompressobj() if data.startswith(b"x") else lzma_decompressor()
        texts.append(stream.decompress(data).decode("utf-8"))
        data = stream.unused_data
    return texts


def lzma_decompressor():
    try:
        from _lzma import LZMADecompressor  # lzma itself costs 1 ms
    except ImportError:
        raise Missing("lzma") from None
    return LZMADecompressor()


def sources(texts):
    """Return each module's source by its full name. In a text, a NUL and the name stand before each source, see payload.py."""
    found = {"ansible_collections": "", "ansible_collections.changetracking": ""}
    found["ansible_collections.changetracking.inventory"] = found[PLUGINS] = ""
    for text in texts:
        for file in text.split("\0")[1:]:
            name, _end, source = file.partition("\n")
            found[PLUGINS + "." + name] = source
    return found


def stand_in():
    """Make the modules' imports from Ansible and from typing find the classes above."""
    for name in ("ansible", "ansible.module_utils", "ansible.module_utils.basic"):
        sys.modules[name] = type(sys)(name)
    sys.modules[TYPING] = Typing()  # type: ignore[assignment]
    vars(sys.modules["ansible.module_utils.basic"])["AnsibleModule"] = AnsibleModule


def log(request):
    """Write the line to the system's log that every module of Ansible writes there."""
    if request["log"]:
        import syslog

        syslog.openlog("ansible-" + request["action"], 0, getattr(syslog, request["facility"], syslog.LOG_USER))
        syslog.syslog(syslog.LOG_INFO, request["log"])


def leave_unreadable_folder():
    """Use / as the current directory where the user may not read the one that become left."""
    try:
        readable = os.access(os.getcwd(), os.R_OK)
    except OSError:
        readable = False
    if not readable:
        os.chdir("/")


def run(received):
    """Return what the module ends with, or what is missing."""
    result = run_module(received)
    if not Missing.needed:
        return {"result": result}
    gc.collect()  # closes the generators that the exception left, which ends the processes that read files
    if not has_stored():
        return {"missing": Missing.needed[0]}
    why = "The module stored its result, and then needed %s, which was not sent. Report it: this is a defect of the collection."
    return {"result": {"failed": True, "msg": why % Missing.needed[0].rpartition(".")[2]}}


def has_stored():
    """Whether a run is stored, so that the next one would not find the same changes."""
    store = sys.modules.get(PLUGINS + ".module_utils._cti.state.store")
    return store is not None and store.Store.stored


def run_module(received):
    """Return the result of the module; None where something is missing. A defect in it is a failure in one sentence."""
    module = ""
    try:
        module = prepare(received)
        __import__(PLUGINS + ".modules." + module)
        sys.modules[PLUGINS + ".modules." + module].main()
    except Ended as end:
        return end.args[0]
    except Missing:
        return None
    except Exception as error:
        import traceback

        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        why = "%s: %s (%s, line %d)" % (type(error).__name__, error, frame[0], frame[1])
        return {"failed": True, "msg": "The module %s ended with an internal error: %s." % (module, why)}


def prepare(received):
    """Make the modules importable, and return the name of the one to run."""
    texts = unpack(received)
    request = json.loads(texts.pop())
    sys.meta_path.insert(0, Sources(sources(texts)))
    stand_in()
    AnsibleModule.params, AnsibleModule.check_mode = request["params"], request["check_mode"]
    leave_unreadable_folder()
    log(request)
    return request["module"]


def main(received, marker, interpreter=""):
    gc.disable()  # what a module makes it keeps to its end
    write("%s started\n" % marker)
    answer = dict(run(received), warnings=AnsibleModule.warnings, interpreter=interpreter)
    packed = binascii.b2a_base64(zlib.compress(json.dumps(answer).encode("ascii"), 6), newline=False).decode("ascii")
    write("%s ended %s %s\n" % (marker, packed, marker))
    os._exit(0)  # nothing is left to do, and to take the modules down would cost 3 ms


def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()
