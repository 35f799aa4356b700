"""Columns of the leaderboard that are no metric of the plan: one file each, found by its name."""
