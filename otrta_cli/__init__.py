"""The command line: otrta."""
