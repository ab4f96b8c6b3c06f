"""Published benchmarks: how their files are read, and how their authors score an answer."""
