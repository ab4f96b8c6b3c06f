"""The paper's figures for your own run, in one HTML file, and its numbers in summary.json."""

from visionr1.report.page import write_report
from visionr1.report.terminal import terminal_summary

__all__ = ["terminal_summary", "write_report"]
