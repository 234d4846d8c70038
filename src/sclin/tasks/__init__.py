"""One module per benchmark: what a representation is asked to do, as published and corrected."""
