"""From the leaderboard to the line: the cell that is meant, applied to new images."""
