"""Scripts that other projects' interpreters run: they import nothing of Honeloop's."""
