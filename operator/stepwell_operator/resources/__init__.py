"""Pure builders: one module for what a pool is made of, one for a namespace's gateway."""
