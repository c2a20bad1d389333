"""Reports: one self-contained html page from the files that the stages wrote."""
