"""A lock left behind by a build does not block another release for ever.

A builder of C++ extensions takes the file `lock` in the extension's folder. Variant `killed`: rank 0's builder takes
the lock and is killed. Variant `finished`: it takes the lock and releases it, as every build does; since 2.14, the
file then remains. The next rank asks for the lock, as its build would, and must get it before its deadline. No
compiler is needed. Oracle: the rank held the lock.
"""

KIND = "handover"
NEEDS = ()
TIERS = ("full",)
VARIANTS = {"killed": {}, "finished": {}}


def held(path, forget=False):
    """Take the lock the way this release's builds do, waiting as long as they wait; give it back unless we forget."""
    import importlib.util

    with open(importlib.util.find_spec("torch.utils.cpp_extension").origin) as file:
        knows_batons = "FileBaton(" in file.read()
    if not knows_batons:
        from torch.utils._filelock import FileLock

        lock = FileLock(path)
        lock.acquire()
        if not forget:
            lock.release()
        return True
    from torch.utils.file_baton import FileBaton

    baton = FileBaton(path)
    had = baton.try_acquire()
    if not had:
        baton.wait()
    elif not forget:
        baton.release()
    return True


def lacks(job):
    import tempfile

    from torchskew_kit import refusal

    with tempfile.TemporaryDirectory() as folder:
        why = refusal(lambda: held(folder + "/lock"))
    return {"*": why} if why else {}


def rank(job):
    import os
    import signal

    path = job.path("lock")
    if job.rank or job.variant == "finished":
        return {"held": held(path)}
    builder = os.fork()
    if builder == 0:
        held(path, forget=True)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(builder, 0)
    return {"held": True}


def judge(reports, world):
    return {r: "it never had the lock" for r, report in enumerate(reports) if report and report.get("held") is not True}
