"""An emulator of Vast.ai's REST service: stateful, on loopback, with its faults on demand."""
