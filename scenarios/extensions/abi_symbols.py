"""What popular extensions need of torch's shared libraries is in every release, not only in that of the build.

Rank 0 lists what each shared library of its torch exports (libtorch_cpu, libc10, libtorch_python, libshm, and those of
CUDA where there are any); the next rank says what its own lack. Oracle: the symbols that real wheels take. Losing a
symbol that a wheel of torchvision or torchaudio takes from torch (used_symbols.json, made by `_used_symbols.py` from
the wheels on the index) is WRONG on the rank that lost it: an extension built for the first release does not load
there. All other lost symbols are counted, by library and namespace, in the cell's reason. A symbol that moved to
another library is not lost, since all of them are loaded. The tables of dynamic symbols are read from the files, so
neither nm nor debug information is needed; names are demangled by the C++ library that torch itself loads. Where
abidiff is installed and both releases' libraries carry debug information, the reason also has its count of removed and
changed functions, for 20 seconds at most; it says so where they carry none, as wheels and Debian's packages do. PyTorch
promises a stable ABI between releases only for torch/csrc/stable (`abi_stable`), so the losses of one release against
another are known failures, not promises.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
PATIENCE = 30.0
DATA = "used_symbols.json"

OURS = ("libtorch", "libc10", "libshm", "libcaffe2")
ALWAYS = ("libtorch_cpu", "libc10", "libtorch_python", "libshm")
ABIDIFF_SECONDS = 20  # for all libraries together
FEWEST = 10000  # symbols of libtorch_cpu; every release has 70,000 and more
SHOWN = 3
_SECTION = "<IIQQQQIIQQ"  # name, type, flags, address, offset, size, link, info, alignment, entry size
_DYNAMIC_SYMBOLS = 11
_LOCAL = 0
_LINKERS = {b"_init", b"_fini", b"_edata", b"_end", b"__bss_start"}  # in one build and not in the next, used by nobody
_HIDDEN = (1, 2)


def sections(file):
    """The table of sections of an ELF file of 64 bits, and the number of the section that has their names."""
    import struct

    header = file.read(64)
    (where,) = struct.unpack_from("<Q", header, 40)
    size, count, names = struct.unpack_from("<HHH", header, 58)
    file.seek(where)
    table = file.read(size * count)
    return [struct.unpack_from(_SECTION, table, number * size) for number in range(count)], names


def content(file, section):
    """The bytes of a section."""
    file.seek(section[4])
    return file.read(section[5])


def symbols(file):
    """The dynamic symbols of an ELF file: those that it defines for others, and those that it needs."""
    import struct

    table, _ = sections(file)
    exported, needed = set(), set()
    for section in (each for each in table if each[1] == _DYNAMIC_SYMBOLS):
        names = content(file, table[section[6]])
        for name, info, other, place, _, _ in struct.iter_unpack("<IBBHQQ", content(file, section)):
            if name and info >> 4 != _LOCAL and other & 3 not in _HIDDEN:
                (exported if place else needed).add(names[name : names.index(b"\0", name)])
    return exported - _LINKERS, needed


def libraries():
    """Name -> path of every shared library of torch in this process; the name without a release."""
    import os

    with open("/proc/self/maps") as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
    found = {os.path.basename(path).split(".so")[0]: path for path in paths if ".so" in path}
    return {name.split("-")[0]: path for name, path in sorted(found.items()) if name.startswith(OURS)}


def look(path):
    """What tells a file from another one at the same path."""
    import os

    status = os.stat(path)
    return [status.st_size, status.st_ino, status.st_mtime_ns]


def has_types(path):
    """Whether a library carries debug information."""
    with open(path, "rb") as file:
        table, names = sections(file)
        return b"\0.debug_info\0" in content(file, table[names])


def abidiff(theirs, mine):
    """What abidiff says of the libraries of two releases, or why it says nothing; empty where it is not installed.

    theirs: name -> path of each library and the look of that file; mine: name -> path.
    """
    import os
    import shutil
    import subprocess
    import time

    if shutil.which("abidiff") is None:
        return ""
    until, said = time.monotonic() + ABIDIFF_SECONDS, []
    for name in [each for each in theirs if each in mine]:
        path, before = theirs[name]
        if not os.path.exists(path) or look(path) != before:
            return "abidiff: the libraries of the other release can't be read from here"
        if not (has_types(path) and has_types(mine[name])):
            continue
        left = max(0.1, until - time.monotonic())
        try:
            done = subprocess.run(
                ["abidiff", "--stat", path, mine[name]], check=False, stdout=subprocess.PIPE, timeout=left
            )
        except subprocess.TimeoutExpired:
            said.append("%s took longer than %d s" % (name, ABIDIFF_SECONDS))
            continue
        first = done.stdout.decode(errors="replace").partition("\n")[0].rpartition("summary: ")[2]
        said.append("%s %s" % (name, first if not done.returncode & 3 and first else "could not be compared"))
    return "abidiff: " + (", ".join(said) or "the libraries carry no debug information")


def exports():
    """What each library exports, as sorted text."""
    found = {}
    for name, path in libraries().items():
        with open(path, "rb") as file:
            found[name] = sorted(each.decode("latin1") for each in symbols(file)[0])
    return found


def demangle(names):
    """C++ names as the source has them."""
    import ctypes

    call = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    call.restype, call.argtypes = ctypes.c_void_p, [ctypes.c_char_p] + [ctypes.c_void_p] * 3
    release = ctypes.CDLL(None).free
    release.argtypes = [ctypes.c_void_p]
    status, found = ctypes.c_int(), []
    for name in names:
        text = call(name.encode("latin1"), None, None, ctypes.byref(status))
        found.append(ctypes.string_at(text).decode() if text else name)
        release(text)
    return found


def namespace(name):
    """The outermost namespace of a demangled name; "C" for what has none."""
    import re

    name = re.sub(r"^(vtable|typeinfo|typeinfo name|VTT|guard variable|construction vtable) for ", "", name)
    outer = re.match(r"(?:[\w:<>,*& ]+ )?(\w+)::", name.split("(")[0])
    return outer.group(1) if outer else "C"


def lacks(job):
    import sys

    return {} if sys.platform == "linux" else {"*": "shared libraries are read as ELF files, on Linux only"}


def rank(job):
    import gzip
    import json

    import torch

    mine, path = exports(), job.path("exports.json.gz")
    report = {"torch": str(torch.__version__), "exports": {name: len(each) for name, each in mine.items()}}
    report["cxx11"] = bool(torch.compiled_with_cxx11_abi())
    if job.rank == 0:
        with gzip.open(path, "wt", compresslevel=1) as file:
            files = {name: [path, look(path)] for name, path in libraries().items()}
            json.dump({"symbols": mine, "report": report, "files": files}, file)
        return report
    with gzip.open(path, "rt") as file:
        theirs = json.load(file)
    report.update(compared(theirs["symbols"], mine), earlier=theirs["report"])
    report["abidiff"] = abidiff(theirs["files"], libraries())
    return report


def compared(theirs, mine):
    """What the later ranks' libraries lack, counted, and which of it popular extensions use."""
    everywhere = {symbol for each in mine.values() for symbol in each}
    lost, used, absent = {}, {}, []
    for library, had in theirs.items():
        if library not in mine:
            absent.append(library)
            if library not in ALWAYS:  # a build without CUDA lacks those of CUDA
                continue
        gone = [symbol for symbol in had if symbol not in everywhere]
        counts = {}
        for name in demangle(gone):
            counts[namespace(name)] = counts.get(namespace(name), 0) + 1
        lost[library] = {"had": len(had), "lost": len(gone), "by namespace": counts}
        needed = [symbol for symbol in gone if symbol in DATA["symbols"]]
        for symbol, name in zip(needed, demangle(needed)):
            used[name] = [DATA["wheels"][number] for number in DATA["symbols"][symbol]]
    return {"lost": lost, "used": used, "absent": absent}


def judge(reports, world):
    from torchskew.planning.scenario import Opinion

    wrong = {number: why for number, why in ((n, short(r)) for n, r in enumerate(reports)) if why}
    if wrong or None in reports:
        return wrong
    report = reports[1]
    absent = [name for name in report["absent"] if name in ALWAYS]
    if absent:
        return {1: "it has no %s" % ", ".join(absent)}
    counted = told(report)
    if not report["used"]:
        return Opinion(note="no symbol that extensions use was lost; " + counted)
    names = sorted(report["used"], key=lambda name: (-len(report["used"][name]), len(name)))
    shown = ["%s (%s)" % (name[:120], report["used"][name][-1]) for name in names[:SHOWN]]
    more = " and %d more" % (len(names) - SHOWN) if len(names) > SHOWN else ""
    why = "" if report["cxx11"] == report["earlier"]["cxx11"] else "the C++ ABI of std::string is another one; "
    text = "against %s %d symbols that extensions use are gone; %s%s; gone: %s%s"
    return {1: text % (report["earlier"]["torch"], len(names), why, counted, ", ".join(shown), more)}


def told(report):
    """What was lost in all, library by library, with the three namespaces that lost most."""
    parts = []
    for library, each in report["lost"].items():
        if each["lost"]:
            most = sorted(each["by namespace"].items(), key=lambda item: -item[1])[:SHOWN]
            spaces = ", ".join("{} {:,}".format(*item) for item in most)
            parts.append(
                "%s lost %s of %s (%s)" % (library, *("{:,}".format(each[what]) for what in ("lost", "had")), spaces)
            )
    left_out = [name for name in report["absent"] if name not in ALWAYS]
    parts += ["not compared: %s" % ", ".join(left_out)] if left_out else []
    return "; ".join([*(parts or ["nothing was lost"]), *filter(None, [report.get("abidiff")])])


def short(report):
    """Why a report can't be compared, or an empty text."""
    if report is None or report["exports"].get("libtorch_cpu", 0) >= FEWEST:
        return ""
    return "libtorch_cpu exports %s symbols, fewer than %d" % (report["exports"].get("libtorch_cpu", "no"), FEWEST)
