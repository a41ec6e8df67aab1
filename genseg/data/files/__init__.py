"""Reading and writing of files: encoded images, rasters, masks and their class tables, raw downloads."""
