"""Everything about runs that train as one program."""
