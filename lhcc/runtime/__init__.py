"""Running what was compiled: executables, artifacts and profiles.  Needs the TVM runtime library and numpy, nothing else."""
