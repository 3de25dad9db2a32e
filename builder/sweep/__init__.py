"""Many trainings of one config: what is varied, who chooses, where they run, and what came of them."""
