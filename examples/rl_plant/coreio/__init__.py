"""The plant's input and output: what a service of handlers looks like."""
