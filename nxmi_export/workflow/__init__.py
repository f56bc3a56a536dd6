"""The verbs as functions, each in its own module or package."""
