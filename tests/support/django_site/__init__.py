"""A small Django project for tests: a model of pictures that is filled by the signals, and views of its own."""
