"""Files of verdicts, published by others or in a plain layout of our own: each line is used, or counted with a reason."""

from shared.verdict_files.agreement_report import AgreementReport, agreement_report
from shared.verdict_files.layouts import LAYOUTS
from shared.verdict_files.rate_report import RateReport, rate_report
from shared.verdict_files.reading import read_verdicts
from shared.verdict_files.verdicts import Verdict, VerdictFile

__all__ = [
    "LAYOUTS",
    "AgreementReport",
    "RateReport",
    "Verdict",
    "VerdictFile",
    "agreement_report",
    "rate_report",
    "read_verdicts",
]
