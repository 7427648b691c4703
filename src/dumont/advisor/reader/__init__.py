"""The rules reader: Portuguese or English text to a workload, without any language model."""
