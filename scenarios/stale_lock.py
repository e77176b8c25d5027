"""A lock that a build left behind does not keep another release waiting for ever.

A builder of C++ extensions takes the file `lock` in the extension's folder. Variant `killed`: rank 0's builder takes
the lock and is killed. Variant `finished`: it takes the lock and gives it back, as every build does; since 2.14 the
file then stays. The next rank asks for the lock, as its build would, and has to get it before its deadline. No
compiler is needed. The oracle is that it had the lock.
"""

KIND = "handover"
NEEDS = ("torch.utils.cpp_extension",)
TIERS = ("critical", "full")
WARM = ("torch.utils.cpp_extension",)
VARIANTS = {"killed": {}, "finished": {}}


def held(path, forget=False):
    """Take the lock the way this release's builds do, waiting as long as they wait; give it back unless we forget."""
    from torch.utils import cpp_extension

    if hasattr(cpp_extension, "FileLock"):
        lock = cpp_extension.FileLock(path)
        lock.acquire()
        if not forget:
            lock.release()
        return True
    baton = cpp_extension.FileBaton(path)
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
