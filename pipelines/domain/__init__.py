"""Pure rules of promotion: no clock and no I/O; beyond the standard library only pydantic, to read formats strictly."""
