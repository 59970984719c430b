"""The steps from a model, a catalogue and past sessions to a published bundle."""
