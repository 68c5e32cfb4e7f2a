"""Processes that work for this one: each is started, sent work, asked, and ends with this one."""
