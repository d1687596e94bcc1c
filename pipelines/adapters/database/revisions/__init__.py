"""The changes of Slipway's tables, one file each: a database gets those that it lacks, in their order.

A revision is numbered as the schema that it makes and is never edited once a database has it: so it names its tables
and columns itself, and imports nothing that changes with the records.
"""
