"""The world: one technology in each module, ignorant of the others. Only `service`, `lone` and `openers` name them."""
