"""Training that a framework saved under one release resumes under another, as its documentation shows it.

`lightning`: Trainer.save_checkpoint, and fit with ckpt_path. `accelerate`: save_state and load_state of an Accelerator.
`transformers`: a Trainer's own checkpoint, and train with resume_from_checkpoint, on a tiny GPT-2. Rank 0 trains three
steps and saves; it also trains six without a break. The next rank resumes and trains up to six. Models are made on the
spot; nothing is downloaded. The oracle is rank 0's own parameters after six steps, to 1e-5. A version has a framework
where its `requires` names it.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("lightning for `lightning`", "accelerate for the others", "transformers for `transformers`")
APPLIES = ">=2.1"
TIERS = ("full",)
PATIENCE = 120
VARIANTS = {"lightning": {}, "accelerate": {}, "transformers": {}}
HALF, WHOLE, BOUND = 3, 6, 1e-5


def layer(seed):
    """A layer whose weights follow from a seed."""
    import torch

    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2)


def rows():
    import torch

    return torch.linspace(-1.0, 1.0, 12).reshape(4, 3)


def numbers(model):
    """Every parameter's elements."""
    return [value for each in model.parameters() for value in each.detach().reshape(-1).tolist()]


def lightning(path, steps, resumed):
    """Train with Lightning; returns the model. Saves where it stops half-way."""
    import importlib

    import torch

    pl = importlib.import_module("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = layer(1 if resumed else 0)

        def training_step(self, batch, _):
            return (self.layer(batch) ** 2).mean()

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.5 if resumed else 0.05)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=steps, accelerator="cpu", devices=1, logger=False, log_every_n_steps=1, **quiet)
    model = Module()
    trainer.fit(model, torch.utils.data.DataLoader(rows(), batch_size=4), ckpt_path=path if resumed else None)
    if steps == HALF:
        trainer.save_checkpoint(path)
    return model


def accelerate(path, steps, resumed):
    """Train with Accelerate; returns the model."""
    import importlib

    import torch

    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    model = layer(1 if resumed else 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5 if resumed else 0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    if resumed:
        accelerator.load_state(path)
    for _ in range(HALF if resumed else 0, steps):
        optimizer.zero_grad()
        accelerator.backward((model(rows()) ** 2).mean())
        optimizer.step()
        schedule.step()
    if steps == HALF:
        accelerator.save_state(path)
    return accelerator.unwrap_model(model)


def transformers(path, steps, resumed):
    """Train a tiny GPT-2 with the Trainer; returns the model."""
    import importlib
    import os

    import torch

    hf = importlib.import_module("transformers")
    torch.manual_seed(1 if resumed else 0)
    sizes = {"vocab_size": 16, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0}
    still = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "eos_token_id": 0}
    model = hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, **still))
    texts = [[(k * step) % 16 for k in range(8)] for step in range(1, 9)]
    data = [{"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in texts]
    settings = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "steps", "save_steps": HALF}
    training = hf.TrainingArguments(
        output_dir=path, max_steps=steps, learning_rate=0.5 if resumed else 0.05, lr_scheduler_type="constant",
        per_device_train_batch_size=2, logging_strategy="no", **settings,
    )  # fmt: skip
    trainer = hf.Trainer(model=model, args=training, train_dataset=data)
    trainer.train(resume_from_checkpoint=os.path.join(path, "checkpoint-%d" % HALF) if resumed else None)
    return trainer.model


def lacks(job):
    import importlib

    from torchskew_kit import refusal

    del job
    found = {name: refusal(lambda name=name: importlib.import_module(name)) for name in VARIANTS}
    found["transformers"] = found["transformers"] or found["accelerate"]
    return {name: why for name, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    train, path = globals()[job.variant], job.path("checkpoint")
    if job.rank > 0:
        return {"cases": {"later": numbers(train(path, WHOLE, True))}}
    half = numbers(train(path, HALF, False))
    later = numbers(train(job.path("unbroken"), WHOLE, False))
    return {"cases": {"later": later}, "moved": half != later}


def judge(reports, world):
    from torchskew.judging.oracle import near

    if reports[0] is not None and not reports[0].get("moved"):
        return {0: "its parameters did not move after it saved them"}
    return near([report and {"cases": report["cases"]} for report in reports], world, ["later"], BOUND)
