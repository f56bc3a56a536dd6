"""What others make of the same models for a processor, timed beside what this project makes."""
