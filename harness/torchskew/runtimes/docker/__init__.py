"""Versions as Docker images: pulled, built or bootstrapped, run as containers on a network of their own."""
