"""What can be watched: one table of instruments, /metrics and /healthz."""

from visionr1.metrics.exporter import Exporter
from visionr1.metrics.table import RECORD_KEYS, TABLE, Instrument

__all__ = ["RECORD_KEYS", "TABLE", "Exporter", "Instrument"]
