"""Labels taught with pictures: what `teach`, `taught` and `forget` do."""
