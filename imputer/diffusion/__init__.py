"""Diffusion: schedules, noise and samplers; knows no network."""
