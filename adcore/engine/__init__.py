"""From a plan to finished cells: what there is to compute, under which keys, in which order, and the steps."""
