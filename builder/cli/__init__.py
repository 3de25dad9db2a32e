"""The command line: one file a verb, each of which parses, calls the pipeline, prints, and says the exit code."""
