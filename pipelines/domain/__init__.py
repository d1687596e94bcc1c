"""Pure rules of promotion: no clock, no I/O, and beyond the standard library only pydantic, to read formats strictly."""
