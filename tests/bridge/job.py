"""One rank of a job that does as it is told, line by line: `reduce`, `group`. Any release, Python 3.8."""

import datetime as dt
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402


def say(text):
    """One line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


rank, world = int(sys.argv[1]), int(sys.argv[2])
say("imported")
sys.stdin.readline()
dist.init_process_group("gloo", rank=rank, world_size=world, timeout=dt.timedelta(seconds=60))
say("joined")
for line in sys.stdin:
    try:
        if line == "group\n":
            dist.new_group(list(range(world)))
            say("a new group")
        else:
            value = torch.tensor([10.0**rank])
            dist.all_reduce(value)
            say(str(int(value.item())))
    except Exception as problem:  # noqa: BLE001 - whatever it is, the test judges it
        say(type(problem).__name__ + ": " + str(problem).split("\n")[0])
