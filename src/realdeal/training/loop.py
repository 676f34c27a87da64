"""The one training loop: steps, EMA, validation, checkpoints that resume, progress."""

import os
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel

from realdeal.device import choose_precision
from realdeal.errors import InputError
from realdeal.files import atomic_path, write_table
from realdeal.generators import generator_for
from realdeal.progress import progress
from realdeal.training.watch import Watch

VALIDATION_ROUNDS = 4  # batches whose mean loss is the validation loss; the same ones each time


def make_ema(network, decay):
    """Exponential moving average of the weights, with a warm-up that forgets the first steps."""

    def average(averaged, current, count):
        return averaged.lerp(current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return AveragedModel(network, avg_fn=average)


def make_learning_rate(optimizer, settings):
    """`constant` (papers) or `one_cycle` (few steps)."""
    if settings["learning_rate_schedule"] == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=settings["learning_rate"], total_steps=settings["steps"]
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def before(path):
    """Where the checkpoint before the one at `path` is kept."""
    return Path(f"{path}.before")


def save_state(path, state):
    """Write a checkpoint; the one it replaces is kept as `before(path)`."""
    path = Path(path)
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
        if path.exists():
            path.replace(before(path))


def load_state(path, identity):
    """The checkpoint at `path`, or the one before, if it is whole and of the same run; or None.

    Only tensors and plain values are read: a file that would run code is left aside, too.
    """
    for candidate in (Path(path), before(path)):
        if not candidate.exists():
            continue
        try:
            with zipfile.ZipFile(candidate) as archive:
                if archive.testzip() is not None:  # torch compares no checksums
                    raise OSError("wrong checksum")
            state = torch.load(candidate, map_location="cpu", weights_only=True)
            found = state["identity"]
        except Exception as error:  # zip and torch raise many kinds for a damaged file
            print(f"{candidate}: cannot be loaded ({error.__class__.__name__}); left aside")
            continue
        if found != identity:
            print(f"{candidate}: left by another configuration; starting from the first step")
            return None
        return state
    return None


@contextmanager
def stop_signals(handle):
    """`handle(number)` is called on SIGTERM, which a cluster sends before it kills, and SIGINT.

    Python handles signals in its main thread only; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.signal(kind, lambda number, _: handle(number)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, handlers, strict=True):
            signal.signal(kind, handler)


def fit(name, network, draw, loss, show, settings, study, seed, identity):
    """Train `network` for `settings["steps"]` optimiser steps; return (network, description).

    `draw(generator, validation)` makes a batch (dict of CPU tensors, one row for each sample, or
    scalars) from a generator that depends on the seed and the step alone, so the order of the
    data needs no state to resume; `loss(network, batch)` is a mean over samples, and
    `show(network, batch)` gives volumes to look at, {caption: (X, Y, Z)}. Validation batches are
    the same ones each time. The returned network carries the averaged weights if
    `settings["ema"]` is set. Under torchrun each process takes its part of every batch, and all
    but the first return (None, None); a process takes its part in `settings["accumulation"]`
    pieces, one after another.

    `identity` (any JSON) decides whether a resume state left behind belongs to this run.
    InputError if the loss stops being finite: the last checkpoint stays. InputError after SIGTERM
    or SIGINT, once the step is finished and a checkpoint written.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
    fabric = Fabric(
        accelerator="auto",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        precision=choose_precision(settings["precision"]),
    )
    fabric.launch()
    pieces = settings["accumulation"]
    share = settings["batch_size"] // world
    if settings["batch_size"] % (world * pieces):
        raise InputError(
            f"{name}.training: {world} devices cannot share batches of {settings['batch_size']} in "
            f"{pieces} pieces; make batch_size a multiple of devices x accumulation"
        )
    part = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)

    def draw_part(step):
        """This device's part of the batch; all of it is drawn, so that it hangs on no device."""
        return rows_of(draw(generator_for(seed, name, step), False), part)

    steps = settings["steps"]
    network = network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    learning_rate = make_learning_rate(optimizer, settings)
    wrapped, optimizer = fabric.setup(network, optimizer)
    ema = make_ema(network, settings["ema"]) if settings["ema"] else None
    start, rows, spent = 0, [], 0.0
    running, since = 0.0, 0  # sum of the losses since the last row
    state_path = study.state(name)
    state = load_state(state_path, identity)
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        learning_rate.load_state_dict(state["learning_rate"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
        start, rows, spent = state["step"], state["rows"], state["seconds"]
        running, since = state["running"], state["since"]
        print(f"{name}: going on from step {start} of {steps}")

    began = saved = time.monotonic()

    def agreed(received):
        """Whether any device was told to stop: they must all stop after the same step."""
        return fabric.strategy.reduce_boolean_decision(bool(received), all=False)

    def save(step):
        if not fabric.is_global_zero:
            return
        state = {
            "identity": identity,
            "step": step,
            "rows": rows,
            "running": running,
            "since": since,
            "seconds": spent + time.monotonic() - began,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "learning_rate": learning_rate.state_dict(),
            "ema": ema.state_dict() if ema is not None else None,
        }
        save_state(state_path, state)

    @torch.no_grad()
    def validate():
        tested = ema.module if ema is not None else network
        values = []
        for round_ in range(VALIDATION_ROUNDS):
            batch = draw(generator_for(seed, name, "validation", round_), True)
            batch = to_device(batch, fabric.device)
            with fabric.autocast():
                values.append(float(loss(tested, batch)))
        if watch:
            with fabric.autocast():
                watch.volumes(show(tested, batch), done)
        return sum(values) / len(values)

    bar = progress(
        total=steps,
        description=f"training {name}",
        unit="step",
        disable=not fabric.is_global_zero,
    )
    bar.update(start)
    every = max(1, steps // settings["validations"])
    watch = Watch(study, name, start) if fabric.is_global_zero else None
    stopped = []  # signals: the loop ends after the step, with a checkpoint
    # One step ahead in a thread: reading and drawing overlap with computing.
    with ThreadPoolExecutor(1) as pool, stop_signals(stopped.append):
        coming = pool.submit(draw_part, start)
        for step in range(start, steps):
            batch = to_device(coming.result(), fabric.device)
            if step + 1 < steps:
                coming = pool.submit(draw_part, step + 1)
            optimizer.zero_grad(set_to_none=True)
            number = 0.0
            for piece in range(pieces):
                some = slice(piece * share // pieces, (piece + 1) * share // pieces)
                with fabric.no_backward_sync(wrapped, enabled=world > 1 and piece < pieces - 1):
                    value = loss(wrapped, rows_of(batch, some)) / pieces
                    fabric.backward(value)
                number += float(fabric.all_reduce(value.detach()))
            if not number < float("inf"):
                raise InputError(
                    f"{name}: the loss is not finite at step {step + 1}; the checkpoint before is "
                    f"kept at {state_path}: lower {name}.training.learning_rate and run again"
                )
            if settings["gradient_clip"]:
                fabric.clip_gradients(network, optimizer, max_norm=settings["gradient_clip"])
            optimizer.step()
            learning_rate.step()
            if ema is not None:
                ema.update_parameters(network)
            running += number
            bar.set_postfix_str(f"loss {number:.4g}", refresh=False)
            bar.update()
            done = step + 1
            if done % every == 0 or done == steps:
                rows.append(
                    {
                        "step": done,
                        "seconds": spent + time.monotonic() - began,
                        "loss": running / (done - since),
                        "validation_loss": validate(),
                    }
                )
                running, since = 0.0, done
                if watch:
                    watch.curves(rows[-1])
            if time.monotonic() - saved > settings["checkpoint_seconds"]:
                save(done)
                saved = time.monotonic()
            if agreed(stopped) and done < steps:
                save(done)
                raise InputError(
                    f"{name}: stopped after step {done} of {steps}; run the same command again "
                    "and it goes on from there"
                )
    bar.close()
    if not fabric.is_global_zero:
        return None, None
    watch.close()
    write_table(study.history(name), pd.DataFrame(rows))
    trained = ema.module if ema is not None else network
    description = {
        "steps": steps,
        "seed": seed,
        "seconds": spent + time.monotonic() - began,
        "device": torch.cuda.get_device_name() if fabric.device.type == "cuda" else "cpu",
        "precision": settings["precision"],
        "torch": torch.__version__,
    }
    return trained.eval(), description


def finish(name, study):
    """Remove the resume state once the model itself is on disk."""
    for path in (study.state(name), before(study.state(name))):
        Path(path).unlink(missing_ok=True)


def rows_of(batch, rows):
    """Some samples of a batch; scalars belong to all."""
    return {key: value[rows] if value.ndim else value for key, value in batch.items()}


def to_device(batch, device):
    return {
        key: value.to(device, non_blocking=True, memory_format=torch.channels_last_3d)
        if value.ndim == 5
        else value.to(device)
        for key, value in batch.items()
    }
