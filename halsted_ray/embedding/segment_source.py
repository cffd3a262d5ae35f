"""Segments as a source of Ray Data that is as large as it likes: they are made while they are read, and the driver
forgets those that are done.

Measured with two stages on ray 2.60, memory of the driver per segment, over 20,000 segments: tables given to
``from_arrow`` 44 kB, since it keeps every input in the object store; a source that is read 4.6 kB, most of it
statistics that the operators keep. With the settings of ``prepared`` 0.4 kB, over 15,000 segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data
from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces.execution_options import ExecutionResources
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from halsted_ray.embedding.segments import Segments
from halsted_ray.embedding.stage_schemas import segments_table

if TYPE_CHECKING:
    from ray.data._internal.execution.interfaces import PhysicalOperator
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

PART_SEGMENTS = 10_000
"""Segments of one read task. A task costs the driver 50 kB, and a task that is tried again begins at its start."""
READING_CPUS = 0.1
READ_BYTES = 16_000
"""Taken from a read task at once: some 30 segments."""
AHEAD = "halsted.segments_ahead"
"""Name of the setting: how many segments are read before an actor is there to take them."""


def read_segments(segments: Segments, ahead: int) -> ray.data.Dataset:
    """A data set of SEGMENT_SCHEMA, one block per segment: this is what Ray hands to an actor, tries again after a
    fault, and gives back. At most some ``ahead`` segments are read before they are wanted. Stages are added to it in
    the block of ``prepared`` in which it was made."""
    ray.data.DataContext.get_current().set_config(AHEAD, ahead)
    source = _Source(segments)
    return ray.data.read_datasource(
        source,
        override_num_blocks=len(source.parts),
        concurrency=1,
        ray_remote_args={"num_cpus": READING_CPUS, "enable_task_events": False},
    )


@contextmanager
def prepared(leave_cpus: float = 0.0, leave_gpus: float = 0.0) -> Iterator[None]:
    """Sets Ray Data up for such data sets, as long as the block lasts. A data set keeps the settings it was made with.

    ``leave_cpus`` and ``leave_gpus``: what pools that grow with the cluster leave of it to others.
    """
    before = ray.data.DataContext.get_current()
    context = before.copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # else a task joins its segments in one block, and one actor gets them all
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _ForgetStatistics]
    if leave_cpus or leave_gpus:
        context.execution_options.exclude_resources = ExecutionResources(cpu=leave_cpus, gpu=leave_gpus)
    # A pool may grow where each of its actors works: not every pool queues more than that.
    context.autoscaling_config = replace(context.autoscaling_config, actor_pool_util_upscaling_threshold=1.0)
    context.set_config("backpressure_policies.enabled", [*ENABLED_BACKPRESSURE_POLICIES, _ReadAhead])
    ray.data.DataContext._set_current(context)
    try:
        yield
    finally:
        ray.data.DataContext._set_current(before)


class _Source(Datasource):
    def __init__(self, segments: Segments) -> None:
        super().__init__()
        self.parts = segments.parts(PART_SEGMENTS)

    def get_name(self) -> str:
        return "Segments"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, _parallelism: int, *_arguments: Any, **_named: Any) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_tables, part), unknown) for part in self.parts]


def _tables(segments: Segments) -> Iterator[pa.Table]:
    for segment in segments:
        yield segments_table([segment])


class _ForgetStatistics(ExecutionCallback):
    """Drops what operators note of each block for ``Dataset.stats()``: 1.1 kB per block and stage, for ever."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        for operator in executor._topology:
            if noted := getattr(operator, "_output_blocks_stats", None):
                noted.clear()


class _ReadAhead(BackpressurePolicy):
    """Holds the reading of segments back while enough of them wait. Ray itself counts bytes, of which segments have
    next to none."""

    def can_add_input(self, op: PhysicalOperator) -> bool:
        return not self._has_enough(op)

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        return 0 if self._has_enough(op) else READ_BYTES if self._reads(op) else None

    def _has_enough(self, op: PhysicalOperator) -> bool:
        ahead = self._data_context.get_config(AHEAD)
        return self._reads(op) and len(self._topology[op].output_queue) >= ahead

    @staticmethod
    def _reads(op: PhysicalOperator) -> bool:
        """Whether ``op`` is the first operator, behind the list of read tasks."""
        return bool(op.input_dependencies) and not op.input_dependencies[0].input_dependencies
