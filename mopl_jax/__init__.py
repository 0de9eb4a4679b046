"""mopl_jax: from randomised scalarisation weights to new weights you can trust."""
