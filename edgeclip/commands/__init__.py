"""The commands: in each file the options of one family, and the thin functions that do them."""
