"""Finished cells of a plan, and what may be concluded from them, as data: tables, intervals, comparisons. No texts."""
