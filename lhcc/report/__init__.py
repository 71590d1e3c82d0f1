"""What measurements look like: tables, data files, HTML and traces.  Imports nothing but the standard library."""
