"""What a run tells: metrics of its steps, files and events, lines of the log, tables, pictures."""
