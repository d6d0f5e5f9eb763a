"""How far a model's distributions and answers are from the reference's."""
