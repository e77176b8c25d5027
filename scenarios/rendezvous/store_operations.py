"""Every operation of a store means the same to its host and to its clients: that of a shared dict.

Rank 0 hosts a TCPStore. Each variant is a list of steps of one operation. The ranks take the steps in turn, so host
and clients both write what the other reads; each rank posts the end of its step in a file, which keeps the order. The
oracle plays the same steps on a dict and knows which rank takes which step.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("store_connect",)
RENDEZVOUS = "store"
NEEDS = ("TCPStore",)
TIERS = ("full",)
GUARD = ("off",)

# variant -> steps: a method and its arguments, or what it is made of
STEPS = {
    "set_get": [("set", "a", "1"), ("get", "a"), ("set", "a", "two"), ("get", "a"), ("get", "a")],
    "binary": [("set", "b", "\x00\x7f\n"), ("get", "b"), ("set", "c", "x" * 70000), ("get", "c"), ("get", "c")],
    "add": [("add", "n", 5), ("add", "n", -7), ("add", "n", 1), ("get", "n"), ("add", "m", 0), ("get", "m")],
    "compare_set": [
        ("compare_set", "k", "", "first"), ("compare_set", "k", "other", "no"), ("get", "k"),
        ("compare_set", "k", "first", "second"), ("get", "k"), ("compare_set", "none", "expected", "v"),
    ],
    "wait": [("set", "w", "1"), ("wait", ["w"]), ("wait", ["w"]), ("expire", ["no"]), ("expire", ["no"]), ("get", "w")],
    "delete": [("set", "d", "1"), ("delete_key", "d"), ("delete_key", "d"), ("set", "d", "2"), ("delete_key", "d")],
    "num_keys": [("set", "x", "1"), ("num_keys",), ("set", "y", "1"), ("num_keys",), ("num_keys",)],
    "check": [("check", ["q"]), ("set", "q", "1"), ("check", ["q"]), ("check", ["q", "nobody"])],
    "append": [("append", "p", "one"), ("append", "p", "two"), ("get", "p"), ("append", "p", "three"), ("get", "p")],
    "multi": [
        ("multi_set", ["u", "v"], ["1", "2"]), ("multi_get", ["u", "v"]), ("multi_get", ["v", "u"]), ("get", "u"),
        ("get", "v"),
    ],
    "queue": [
        ("queue_push", "q", "1"), ("queue_push", "q", "2"), ("queue_len", "q"), ("queue_pop", "q"), ("queue_pop", "q"),
        ("queue_len", "q"), ("queue_len", "q"),
    ],
    "list_keys": [("set", "x", "1"), ("list_keys",), ("set", "y", "1"), ("list_keys",), ("list_keys",)],
}  # fmt: skip
VARIANTS = {name: {"params": {"steps": name}} for name in STEPS}
# A store does not answer these: only what the same client asks next is sure to come after them.
UNANSWERED = {"set": "get", "append": "get", "multi_set": "get", "queue_push": "queue_len"}
HIDDEN = "init/"  # keys of the store itself
WAIT = 0.1  # seconds given to a wait that must end


def lacks(job):
    """Return the operations whose method this version has not, or refuses."""
    import torch.distributed as dist
    from torchskew_kit import refusal

    methods = {name: {step[0] for step in steps} - {"expire"} for name, steps in STEPS.items()}
    lacking = {name: [one for one in methods[name] if not hasattr(dist.TCPStore, one)] for name in methods}
    found = {name: "TCPStore has no " + ", ".join(sorted(none)) for name, none in lacking.items() if none}
    for name, call in (("queue", lambda: job.store().queue_len("q")), ("list_keys", lambda: job.store().list_keys())):
        why = None if name in found else refusal(call)  # a build without libuv has the methods only
        found.update({name: why} if why else {})
    return found


def rank(job):
    job.need(job.variant)
    store = job.store()
    keys = store.num_keys() if job.variant == "num_keys" else 0
    job.post("ready %d" % job.rank, keys)
    for one in range(job.world_size):
        job.fetch("ready %d" % one)
    cases = {}
    for number, (what, *arguments) in enumerate(STEPS[job.params["steps"]]):
        if number % job.world_size == job.rank:
            cases["%d %s" % (number, what)] = taken(store, what, arguments, keys)
            job.post("step %d" % number, True)
        else:
            job.fetch("step %d" % number)
    return {"cases": cases}


def taken(store, what, arguments, keys):
    """Take one step; returns what it gave, in JSON."""
    import datetime as dt

    if what == "expire":
        try:
            store.wait(*arguments, dt.timedelta(seconds=WAIT))
        except Exception as error:
            return "timeout" if "imeout" in str(error) or "imed out" in str(error) else str(error)
        return "came back"
    got = getattr(store, what)(*arguments)
    if what in UNANSWERED:
        first = arguments[0] if isinstance(arguments[0], str) else arguments[0][0]
        getattr(store, UNANSWERED[what])(first)
    if what == "num_keys":
        return got - keys
    if what == "list_keys":
        return sorted(key for key in got if HIDDEN not in key)
    if isinstance(got, (list, tuple)):
        return [one.decode() for one in got]
    return got.decode() if isinstance(got, bytes) else got


def modelled(steps):
    """What each step gives, by a dict that everybody agrees on."""
    kept, queues, given = {}, {}, []
    for what, *arguments in steps:
        given.append(MODEL[what](kept, queues, *arguments))
    return given


def added(kept, _, key, amount):
    kept[key] = str(int(kept.get(key, "0")) + amount)
    return int(kept[key])


def compared(kept, _, key, old, new):
    """A key that is not there is made when the old value is given as empty; else the caller hears its own."""
    if key not in kept:
        if old:
            return old
        kept[key] = new
    elif kept[key] == old:
        kept[key] = new
    return kept[key]


MODEL = {
    "set": lambda kept, _, key, value: kept.__setitem__(key, value),
    "get": lambda kept, _, key: kept[key],
    "add": added,
    "compare_set": compared,
    "wait": lambda kept, _, keys: None,
    "expire": lambda kept, _, keys: "timeout",
    "delete_key": lambda kept, _, key: kept.pop(key, None) is not None,
    "check": lambda kept, _, keys: all(key in kept for key in keys),
    "num_keys": lambda kept, _: len(kept),
    "append": lambda kept, _, key, value: kept.__setitem__(key, kept.get(key, "") + value),
    "multi_set": lambda kept, _, keys, values: kept.update(zip(keys, values)),
    "multi_get": lambda kept, _, keys: [kept[key] for key in keys],
    "list_keys": lambda kept, _: sorted(kept),
    "queue_push": lambda _, queues, key, value: queues.setdefault(key, []).append(value),
    "queue_pop": lambda _, queues, key: queues[key].pop(0),
    "queue_len": lambda _, queues, key: len(queues.get(key, [])),
}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    steps = STEPS[world.params["steps"]]
    given = modelled(steps)

    def expected(rank):
        mine = range(rank, len(steps), world.size)
        return {"%d %s" % (number, steps[number][0]): given[number] for number in mine}

    return compare(reports, world, expected)
