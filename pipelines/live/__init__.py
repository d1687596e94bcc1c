"""What is known of the requests that are served: a sample of them, labels that people send, and what follows."""
