"""Datasets: tables, their files, preprocessing, splits and batches."""
