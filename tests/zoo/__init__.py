"""Models that must not pass, made to be bad in one way each, and the good ones that they are told apart from."""
