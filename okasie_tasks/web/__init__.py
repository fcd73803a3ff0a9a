"""The HTTP API and the console, in one process. Workers never import it."""
