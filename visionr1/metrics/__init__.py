"""What can be watched: one table of instruments, /metrics and /healthz, the step log."""

from visionr1.metrics.exporter import Exporter
from visionr1.metrics.steplog import StepLog, read_steps
from visionr1.metrics.table import RECORD_KEYS, TABLE, Instrument

__all__ = ["RECORD_KEYS", "TABLE", "Exporter", "Instrument", "StepLog", "read_steps"]
