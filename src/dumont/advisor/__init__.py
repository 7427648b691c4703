"""The advisor: from a described workload to the GPU that fits, with arithmetic that can be checked."""
