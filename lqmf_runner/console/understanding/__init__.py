"""What a sentence in plain English asks for: steps with an intent and arguments, or that it is not understood."""
