"""Moments of what a layer reads and of what flows back to it, from the gradient at each position, in NumPy."""

import numpy as np


class Moments:
    """Sums over steps, of which the older count less.

    Args:
        decay: How much.
        reduced: Whether positions of an example are taken as one.
    """

    def __init__(self, decay=0.5, reduced=False):
        self.decay, self.reduced = decay, reduced
        self.inputs, self.outputs, self.units, self.steps = 0.0, 0.0, 0.0, 0.0

    def add(self, calls, counted=None):
        """Add what the calls of one step have seen.

        Args:
            calls: For each the inputs, of shape ``(examples, positions, rows)``, and what flowed back.
            counted: How many examples the loss is a mean over; all positions if not given.
        """
        for sums in ("inputs", "outputs", "units", "steps"):
            setattr(self, sums, self.decay * getattr(self, sums))
        self.steps += 1
        for given, back in calls:
            read, flowing, count = np.float64(given), np.float64(back), counted or given.shape[0] * given.shape[1]
            if self.reduced:
                read, flowing, count = read.mean(axis=1), flowing.sum(axis=1), len(read)
            read, flowing = (each.reshape(-1, each.shape[-1]) for each in (read, flowing))
            for row, of_row in zip(read, flowing, strict=True):
                ones = np.append(row, 1)
                self.inputs = self.inputs + np.outer(ones, ones)
                self.outputs = self.outputs + count * np.outer(of_row, of_row)
                self.units = self.units + count * np.outer(np.append(ones, row**2), of_row**2)

    def means(self):
        return {
            "input_moment": self.inputs / self.inputs[-1, -1],
            "output_moment": self.outputs / self.steps,
            "unit_moments": self.units / self.steps,
        }
