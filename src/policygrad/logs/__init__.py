"""What other libraries log, read as what the doctor looks at. Nothing is unpickled."""

from policygrad.logs.examining import examine_table
from policygrad.logs.finding import is_log, read
from policygrad.logs.settings import parse_setting
from policygrad.logs.table import Column, Table

__all__ = ["Column", "Table", "examine_table", "is_log", "parse_setting", "read"]
