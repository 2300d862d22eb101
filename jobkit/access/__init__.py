"""Access to a server of jobkit: by the user of this machine, and by the people of the login file."""
