"""The stored form of a data set: what a record holds, how scenes are cut into records, how they are written."""
