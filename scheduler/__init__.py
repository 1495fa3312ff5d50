"""Runs jobs: stages and trials on Ray, from ask to tell, and everything that may go wrong between."""
