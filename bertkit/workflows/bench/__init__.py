"""How fast this machine is with bertkit, and with what a user would run instead: `bertkit bench` and `bertkit plan`."""
