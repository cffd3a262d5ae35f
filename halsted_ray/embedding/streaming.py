"""Segments stream through stages on Ray Data.

segments ──► stage (pool of actors) ──► stage (pool of actors) ──► tables, in the order in which they are finished
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from halsted_ray.compute.pools import ActorPool
from halsted_ray.errors import ModelError, StorageUnavailable, UsageError

if TYPE_CHECKING:
    from halsted_ray.embedding.segments import Segments

REFUSAL = "refusal"
"""The only column of a table that says why a stage can't work."""
AHEAD_PER_CALL = 4
"""Segments that are read ahead for each call that the first stage has in hand."""


@dataclass(frozen=True)
class Stage:
    """A callable class from table to table, its only argument, and the actors that it runs on."""

    kind: Callable[[Any], Callable[[pa.Table], pa.Table]]
    options: object
    pool: ActorPool
    batch_rows: int = 1
    """Rows that an actor takes at once."""


def stream(
    segments: Segments, stages: Sequence[Stage], leave: tuple[float, float] = (0.0, 0.0)
) -> Generator[pa.Table, None, None]:
    """What the last of ``stages`` gives for ``segments``, in the order in which they are finished.

    ``leave``: CPUs and GPUs of the cluster that pools which grow don't take. Whoever ends the generator early ends the
    stages. A row that an actor held when it died is given to another actor. Raises ModelError where an actor can't use
    what it is to load.
    """
    from halsted_ray.embedding.segment_source import prepared, read_segments

    if not len(segments):
        return
    with quiet_ray_data():
        with prepared(*leave):
            first = stages[0].pool
            calls = first.calls * (first.most or first.actors)
            rows = read_segments(segments, ahead=AHEAD_PER_CALL * calls * stages[0].batch_rows)
            for stage in stages:
                rows = rows.map_batches(
                    _refusing(stage.kind),
                    fn_constructor_args=(stage.options,),
                    batch_size=stage.batch_rows,
                    **_actors(stage.pool),
                )
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if REFUSAL in table.column_names:
                raise ModelError(table[REFUSAL][0].as_py())
            yield table


class _Refusing:
    """A stage whose constructor raises no error of ours: the rows say instead why the stage can't work. Ray would start
    such an actor again and again, and end with a traceback in which the reason is hard to find."""

    kind: Callable[[Any], Callable[[pa.Table], pa.Table]]

    def __init__(self, options: object) -> None:
        self.refusal = ""
        try:
            self.stage = type(self).kind(options)
        except (UsageError, StorageUnavailable) as error:
            self.refusal = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        """What the stage gives, or the reason why it can't."""
        if self.refusal:
            return pa.table({REFUSAL: [self.refusal]})
        return table if REFUSAL in table.column_names else self.stage(table)


def _refusing(kind: Callable[[Any], Callable[[pa.Table], pa.Table]]) -> type[_Refusing]:
    """``_Refusing`` for one stage, under the name of the stage: Ray shows the name of the class."""
    return type(getattr(kind, "__name__", "Stage"), (_Refusing,), {"kind": staticmethod(kind)})


def _actors(pool: ActorPool) -> dict[str, Any]:
    """How Ray Data runs a stage: on a pool of actors, which get Arrow tables without a copy."""
    import ray.data

    return {
        "batch_format": "pyarrow",
        "zero_copy_batch": True,
        "enable_task_events": False,  # Ray's head would keep 3.3 kB per call
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus or None,
        "compute": ray.data.ActorPoolStrategy(
            **({"size": pool.actors} if pool.most is None else {"min_size": pool.actors, "max_size": pool.most}),
            max_tasks_in_flight_per_actor=(1 + pool.queues) * pool.calls,  # what waits is on its way meanwhile
            max_concurrent_calls_per_actor=pool.calls,
            enable_true_multi_threading=pool.calls > 1,
        ),
    }


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Ray Data without log lines and warnings on the terminal, where our own progress stands."""
    logger = logging.getLogger("ray.data")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.data")
        # Neither has a successor in ray 2.60: `enable_task_events` has no parameter of its own, and no other setting
        # follows the size of the cluster.
        for setting in ("ray_remote_args", "ExecutionOptions.exclude_resources"):
            warnings.filterwarnings("ignore", message=f"`{re.escape(setting)}` is deprecated")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
