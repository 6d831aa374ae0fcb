"""The commands, one file for each group of them; a command is: parse, call, print."""
