"""Numbers that papers print, and what was measured beside them, as data."""
