"""adcore: a benchmark pipeline for industrial visual anomaly detection."""
