"""Networks of the enhancers, as plain torch modules."""
