"""One process an environment owns its listening sockets, so that releases change without a lost request."""
