"""Trains any module that maps a batch to named losses. Knows neither columns nor tasks."""
