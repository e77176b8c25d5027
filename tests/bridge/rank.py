"""One rank of a group: imports torch, waits for a line, joins, reduces, prints. Runs in any release, on Python 3.8."""

import datetime as dt
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

sys.stdout.write("imported\n")
sys.stdout.flush()
sys.stdin.readline()
rank, world = int(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", rank=rank, world_size=world, timeout=dt.timedelta(seconds=8))
value = torch.tensor([10.0**rank])
dist.all_reduce(value)
sys.stdout.write(f"{int(value.item())}\n")
sys.stdout.flush()
