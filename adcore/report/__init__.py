"""Leaderboard, galleries and the HTML report: everything made from rows and finished cells."""
