"""Running what was compiled: executables, artifacts and profiles.  Needs only the TVM runtime library and numpy."""
