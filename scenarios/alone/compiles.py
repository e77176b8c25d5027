"""Every Python file of torch can be compiled by the Python it comes with; nothing is imported, nothing is written.

One rank runs alone. A version that is a tree of Python files is read as it is, an installed one where it is installed;
the packages torch, torchgen and functorch are. Files are shared among the processors. A file whose name says that it is
for a later Python (py312_…) may fail in an older one. Oracle: no other file fails, and each is counted.
"""

KIND = "solo"
WORLD = (1, 1)
TIERS = ("critical", "full")
BUILD = False
ALONE = True  # it works on every processor
PATIENCE = 300.0  # a million lines: ten seconds of one processor, more from a cold disk or next to other work

PACKAGES = ("torch", "torchgen", "functorch")
FEWEST = 400  # files; 1.7.1 of Debian has 432


def rank(job):
    import multiprocessing
    import os

    from torchskew_tree import python_files

    folder = the_folder()
    paths = [path for package in PACKAGES for path in python_files(os.path.join(folder, package))]
    workers = min(8, len(os.sched_getaffinity(0)))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        failed = [each for each in pool.imap_unordered(problem, paths, chunksize=32) if each]
        pool.close()
        pool.join()
    return {"files": len(paths), "failed": sorted(failed)[:50]}


def the_folder():
    """Where the packages are."""
    import os

    import torchskew_tree

    if torchskew_tree.is_unbuilt():
        return torchskew_tree.folder()
    import torch

    return os.path.dirname(os.path.dirname(torch.__file__))


def problem(path):
    """Why a file is no Python, as `file:line: text`; None where it is. A file for a later Python is none here."""
    import os
    import re
    import sys
    import warnings

    later = re.match(r"py3(\d+)_", os.path.basename(path))
    if later and int(later.group(1)) > sys.version_info[1]:
        return None
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(file.read(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return "%s:%s: %s" % (path, getattr(error, "lineno", "?"), getattr(error, "msg", error))
    return None


def judge(reports, world):
    report = reports[0]
    if report is None:
        return {}
    if report["files"] < FEWEST:
        return {0: "only %d Python files were found" % report["files"]}
    return {0: "; ".join(report["failed"][:5])} if report["failed"] else {}
