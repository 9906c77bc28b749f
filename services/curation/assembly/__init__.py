"""Assembly: flattens the living facets into the collection, splits it, pairs it and exports the released layouts."""
